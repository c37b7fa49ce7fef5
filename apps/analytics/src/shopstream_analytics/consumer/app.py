"""A Faust app with one agent that hands batches to lanes."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import faust
import mode
from faust.serializers.codecs import Codec
from faust.types.app import AppT
from faust.types.streams import StreamT
from faust.types.transports import TransportT

from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.consumer.driver import FETCH_BYTES_MAX, BatchConsumer, BatchTransport
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.consumer.records import MakeRecord
from shopstream_analytics.sink import LogRange

COMMIT_SECONDS: Final = 1.0
HEARTBEAT_SECONDS: Final = 2.0
REQUEST_SECONDS: Final = 30.0
#: Added partitions are found within this time; Faust's default is five minutes.
METADATA_SECONDS: Final = 10.0
#: A worker whose lanes are full still polls, so this only ends one whose loop hangs.
POLL_SECONDS_MAX: Final = 120.0
#: How long a rebalance waits for a member that does not join it; ours take REVOKE_SECONDS_MAX.
REBALANCE_SECONDS_MAX: Final = 15.0


class _AsIs(Codec):
    """The value is a Batch, made by the driver; there is nothing to decode."""

    def loads(self, s: Any) -> Any:
        return s

    def dumps(self, obj: Any) -> Any:
        return obj


class BatchApp(faust.App):
    """A Faust app whose consumer feeds lanes."""

    lanes: Lanes
    make_record: MakeRecord

    def _new_transport(self) -> TransportT:
        return BatchTransport(self.conf.broker_consumer, self)

    @property
    def batches(self) -> BatchConsumer:
        """The consumer; there is one once the app has started."""
        return cast(BatchConsumer, self.consumer)

    @property
    def consuming(self) -> bool:
        """See Engine.consuming."""
        return bool(self.consumer.started)

    def stop_flow(self) -> None:
        """See Engine.stop_flow."""
        self.consumer.stop_flow()

    async def until_crashed(self) -> str:
        """See Engine.until_crashed."""
        await self._crashed.wait()  # mode offers no public wait for a crash
        return f"Faust crashed: {self.crash_reason!r}"

    async def leave_at_stop(self) -> None:
        """See Engine.leave_at_stop."""
        await self.batches.leave_at_stop()

    async def rejoin(self) -> None:
        """See Engine.rejoin."""
        await self.batches.rejoin()

    def assigned(self) -> set[Source]:
        """See Engine.assigned."""
        return self.batches.sources()

    def stable_end(self, source: Source) -> int | None:
        """The last stable offset as of the last fetch, None before the first."""
        return self.batches.stable_end(source)

    async def log_ranges(self) -> Mapping[Source, LogRange]:
        """What the log holds of the assigned partitions, asked from the broker now."""
        return await self.batches.log_ranges()


def make_app(
    *,
    group: str,
    topics: tuple[str, ...],
    brokers: str,
    client_id: str,
    session_timeout_seconds: float,
    instance: str | None,
    data_dir: Path,
    lanes: Lanes,
    make_record: MakeRecord,
) -> BatchApp:
    """Build the app; nothing is connected before `start`.

    No tables, no leader topic, no topic is ever created here, no web server: state lives in the
    sinks, topics belong to the API, health to the parent process. At least once, because Kafka
    transactions cannot cover DynamoDB or S3; the sinks make it exactly once.
    """
    app = BatchApp(
        group,
        broker=[f"kafka://{broker}" for broker in brokers.split(",")],
        broker_client_id=client_id,
        broker_session_timeout=session_timeout_seconds,
        broker_heartbeat_interval=min(HEARTBEAT_SECONDS, session_timeout_seconds / 3),
        broker_request_timeout=REQUEST_SECONDS,
        broker_max_poll_interval=POLL_SECONDS_MAX,
        broker_rebalance_timeout=REBALANCE_SECONDS_MAX,
        broker_commit_interval=COMMIT_SECONDS,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance,
        consumer_max_fetch_size=FETCH_BYTES_MAX,
        consumer_metadata_max_age_ms=int(METADATA_SECONDS * 1_000),
        processing_guarantee="at_least_once",
        agent_supervisor=mode.CrashingSupervisor,
        stream_wait_empty=False,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=str(data_dir),
        loop=asyncio.get_running_loop(),
    )
    app.lanes = lanes
    app.make_record = make_record
    channel = app.topic(*topics, value_serializer=_AsIs(), key_serializer="raw", acks=True)

    async def hand_over(stream: StreamT[Batch]) -> None:
        async for batch in stream:
            lanes.offer(batch)

    app.agent(channel, name=f"{group}.hand_over")(hand_over)
    return app


__all__ = ["AppT", "BatchApp", "make_app"]
