"""Faust's aiokafka driver with the overrides that make it exact and fast.

Faust keeps the group, the assignment, the agents and the process; what changes is what a message
is and who decides on offsets:
- one Faust message is one fetched batch of one partition; its positions are read in the same
  synchronous step as its records (protocol rule 15);
- `_add_gap` does nothing and `_new_offset` is the sink's durable position, so the group's committed
  offset reaches the end of the log, markers included, and never runs ahead of the sink
  (protocol rule 16);
- `_wait_next_records` takes for each lane what it has room for, in bytes, and waits for an event
  where the stock code sleeps a second (protocol rule 17);
- read_committed, fetches that gather for a short while, and a seek to the sink's checkpoints after
  each assignment: none of the three is a setting of Faust;
- a static member that is asked to end leaves the group, which aiokafka's does not.

The seams are private names of faust-streaming 0.15.3, mode-streaming 0.7.1 and aiokafka 0.14.0; all
are pinned, and a test holds the versions and every name that is used or overridden here.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from aiokafka.errors import (  # type: ignore[import-untyped]  # ships no types
    ConsumerStoppedError,
    IllegalStateError,
)
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.consumer.lanes import AssignmentChanged, Lanes
from shopstream_analytics.consumer.records import MakeRecord, take_records
from shopstream_analytics.sink import LogRange

#: A fetch is answered when there is so much, or after FETCH_WAIT_MS whatever there is. Answered at
#: once, each of the relay's small transactions is a round of its own for every sink: beside the
#: load gate's 70 events a second the three workers took 32 % of a core, and 24 with eight times so
#: much (this value was not measured there). Analysts wait a tenth of a second longer at most; a
#: backlog fills it at once.
FETCH_BYTES_MIN: Final = 8_192
#: It bounds, too, how long a partition that got room again waits for the fetch that went out
#: without it.
FETCH_WAIT_MS: Final = 100
#: The most that a fetch brings of one partition, as it lies on the log (compressed); it waits in
#: aiokafka until its lane has room. A larger record batch still comes whole.
FETCH_BYTES_MAX: Final = 524_288
#: How long to look for records when all lanes have room, and when only some have.
TAKE_SECONDS: Final = 1.0
TAKE_SOME_SECONDS: Final = 0.1
#: What a revoked worker may spend on storing what it holds.
REVOKE_SECONDS_MAX: Final = 5.0


class BatchThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka lives."""

    #: Counts seeks; stamped on batches in the same thread that seeks.
    generation = 0

    async def on_start(self) -> None:
        """Start aiokafka's consumer."""
        await super().on_start()
        # A partition whose lane is full must not hold up the fetches of the others.
        self._ensure_consumer()._fetcher._prefetch_backoff = 0.0  # noqa: SLF001 - no setting

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - no setting (see above)
        consumer._fetch_min_bytes = FETCH_BYTES_MIN  # noqa: SLF001 - no setting (see above)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - no setting (see above)
        return consumer

    async def take(
        self, room: Mapping[TP, int], make: MakeRecord, timeout_seconds: float
    ) -> Mapping[TP, Batch]:
        """At most one batch of each partition, about as many bytes as it has room for.

        Empty after the time-out.
        """
        batches: Mapping[TP, Batch] = await self.call_thread(
            self._take, room, make, timeout_seconds
        )
        return batches

    async def seek_all(self, positions: Mapping[TP, int]) -> int:
        """Read on from these positions; returns the generation of what is read from now on.

        Raises AssignmentChanged.
        """
        generation: int = await self.call_thread(self._seek_all, positions)
        return generation

    async def log_ranges(self, tps: set[TP]) -> Mapping[TP, LogRange]:
        """What the log holds of these partitions, asked from the broker."""
        ranges: Mapping[TP, LogRange] = await self.call_thread(self._log_ranges, tps)
        return ranges

    async def leave_at_stop(self) -> None:
        """From now on stopping leaves the group, although the member is static."""
        await self.call_thread(self._leave_at_stop)

    async def rejoin(self) -> None:
        """Join again; from the leader it makes the group share out the partitions anew."""
        await self.call_thread(self._rejoin)

    def stable_end(self, tp: TP) -> int | None:
        """Read from another thread: one reference, at worst a moment old."""
        if self._consumer is None or tp not in self._consumer.assignment():
            return None
        end: int | None = self._consumer.last_stable_offset(driver.ensure_aiokafka_TP(tp))
        return end

    async def _take(
        self, room: Mapping[TP, int], make: MakeRecord, timeout_seconds: float
    ) -> Mapping[TP, Batch]:
        consumer = self._ensure_consumer()
        # Raises what the group's coordinator refused for good, as the public getmany does.
        consumer._coordinator.check_errors()  # noqa: SLF001 - see above
        fetcher = consumer._fetcher  # noqa: SLF001 - the public getmany hides positions
        subscriptions = fetcher._subscriptions  # noqa: SLF001 - the same
        deadline = time.monotonic() + timeout_seconds
        # The context tells aiokafka that we are alive, also when no lane has room.
        with subscriptions.fetch_context():
            while self.consumer.flow_active and not subscriptions.reassignment_in_progress:
                if consumer._closed or fetcher._closed:  # noqa: SLF001 - as the stock driver
                    raise ConsumerStoppedError
                batches = dict(self._drain(fetcher, room, make))
                left = deadline - time.monotonic()
                if batches or left <= 0 or not room:
                    return batches
                waiter = fetcher._create_fetch_waiter()  # noqa: SLF001 - as getmany does
                done, _ = await asyncio.wait([waiter], timeout=left)
                if not done:
                    waiter.cancel()
                    return {}
                waiter.result()
        # A rebalance is on: do not spin until it stops the flow.
        await asyncio.sleep(TAKE_SOME_SECONDS)
        return {}

    def _drain(
        self, fetcher: Any, room: Mapping[TP, int], make: MakeRecord
    ) -> Iterator[tuple[TP, Batch]]:
        """Move what is fetched into batches. Synchronous: nothing may seek in between."""
        fetched = fetcher._records  # noqa: SLF001 - the store behind getmany
        for tp in list(fetched):
            if tp not in room:
                continue
            result = fetched[tp]
            if not hasattr(result, "getall"):
                del fetched[tp]
                fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001 - as getmany does
                result.check_raise()
                continue
            state = result._assignment.state_value(tp)  # noqa: SLF001 - position before and after
            start = state.position
            records, size = take_records(result, tp, make, room[tp])
            if not result.has_more():
                del fetched[tp]
                fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001 - as getmany does
            if state.position > start:
                source = Source(tp.topic, tp.partition)
                end = state.position
                yield tp, Batch(source, start, end, records, size, self.generation)

    async def _seek_all(self, positions: Mapping[TP, int]) -> int:
        consumer = self._ensure_consumer()
        try:
            for tp, position in positions.items():
                consumer.seek(driver.ensure_aiokafka_TP(tp), position)
        except IllegalStateError as error:
            # A rebalance came between the assignment and here; its own assignment follows.
            raise AssignmentChanged(str(error)) from error
        self.generation += 1
        return self.generation

    async def _leave_at_stop(self) -> None:
        # aiokafka keeps the place of whoever has an instance id.
        self._ensure_consumer()._coordinator._group_instance_id = None  # noqa: SLF001 - no setting

    async def _rejoin(self) -> None:
        self._ensure_consumer()._coordinator.request_rejoin()  # noqa: SLF001 - no public way

    async def _log_ranges(self, tps: set[TP]) -> Mapping[TP, LogRange]:
        consumer = self._ensure_consumer()
        first = await consumer.beginning_offsets(tps)
        end = await consumer.end_offsets(tps)
        return {tp: LogRange(first[tp], end[tp]) for tp in tps}


class BatchConsumer(driver.Consumer):
    """Faust's consumer, handing over batches to lanes that have room."""

    _thread: BatchThread

    @property
    def make_record(self) -> MakeRecord:
        make: MakeRecord = cast(Any, self.app).make_record
        return make

    @property
    def lanes(self) -> Lanes:
        lanes: Lanes = cast(Any, self.app).lanes
        return lanes

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:  # noqa: ASYNC109 - theirs
        if not self.flow_active:
            await self.wait(cast(Any, self.can_resume_flow))
        active = self._get_active_partitions()
        free = self.lanes.room()
        room = {tp: free[source] for tp in active if (source := Source(*tp)) in free}
        if not room:
            await self.lanes.wait_for_room(TAKE_SECONDS)
        seconds = TAKE_SECONDS if len(room) == len(active) else TAKE_SOME_SECONDS
        batches = await self._thread.take(room, self.make_record, seconds)
        # None, and not an empty mapping, keeps getmany from seeking when the flow is stopped:
        # the seek after the assignment is the only one.
        if not batches or not self.flow_active:
            return None, None
        for batch in batches.values():
            self.lanes.hand_over(batch)
        return {tp: [batch] for tp, batch in batches.items()}, set(batches)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        batch: Batch = record
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            # Rises from batch to batch, also when a batch holds only markers.
            offset=batch.next - 1,
            timestamp=0.0,
            timestamp_type=0,
            headers=cast(Any, ()),
            key=None,
            value=cast(Any, batch),
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=batch.size_bytes,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def perform_seek(self) -> None:
        """Open a lane a partition and read on from the sinks' checkpoints; idempotent."""
        # Faust goes on without a seek, consuming nothing, where this fails; the lanes end the
        # worker then, and the next one begins anew.
        await self.lanes.take_over(self)

    async def read_from(self, positions: Mapping[Source, int]) -> int:
        """See Reader.read_from."""
        tps = {self._new_topicpartition(*source): at for source, at in positions.items()}
        generation = await self._thread.seek_all(tps)
        for tp in tps:
            self._read_offset[tp] = None
            # None: whatever the sink's position is, commit it.
            self._committed_offset[tp] = None
        return generation

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """The stock steps stop the flow and empty the queues; then the lanes store and end."""
        await super().on_partitions_revoked(revoked)
        await self.lanes.close(timeout_seconds=REVOKE_SECONDS_MAX)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for source in self.lanes.sources():
            tp = self._new_topicpartition(*source)
            if topics is None or tp in topics or source.topic in topics:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self.lanes.durable(Source(tp.topic, tp.partition))

    async def log_ranges(self) -> Mapping[Source, LogRange]:
        """What the log holds of the assigned partitions, asked from the broker."""
        found = await self._thread.log_ranges(set(self.assignment()))
        return {Source(tp.topic, tp.partition): log_range for tp, log_range in found.items()}

    def sources(self) -> set[Source]:
        """What the group has given to us, opened or not."""
        return {Source(tp.topic, tp.partition) for tp in self.assignment()}

    async def leave_at_stop(self) -> None:
        """See BatchThread.leave_at_stop."""
        await self._thread.leave_at_stop()

    async def rejoin(self) -> None:
        """See BatchThread.rejoin."""
        await self._thread.rejoin()

    def stable_end(self, source: Source) -> int | None:
        """The last stable offset that the last fetch told; None before the first."""
        return self._thread.stable_end(self._new_topicpartition(*source))

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Positions chain by themselves; a gap is no news."""


class BatchTransport(driver.Transport):
    """The transport that makes these consumers."""

    Consumer = BatchConsumer
