"""The operator: looks at the workers and does as the manual says, by the service's own commands.

`shopstream topics adopt` for a topic that was made again, once no worker has the old one open;
`shopstream sinks skip` where the log has lost what comes next, once everything that was under way
has arrived: the manual has the service stopped for it. Any other halt is a violation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic import SecretStr
from tests.simulation.consumers.service import Slot
from tests.simulation.consumers.stores import AGGREGATES, BUCKET, CHECKPOINTS, RECENT, Stores

from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.worker.sinks import WorkerName
from shopstream_shared.archive.bucket import S3Bucket
from shopstream_stack.demo.target import Target
from shopstream_stack.sinks import Partition, Store
from shopstream_stack.topics.sinks import RECENT as RECENT_SINK
from shopstream_stack.topics.sinks import NewLife, _adopt, _Archive, _Notes

LOOK_SECONDS: Final = 7.0
#: Only the names of tables and bucket are used.
_TARGET: Final = Target(
    api="",
    stream="",
    analytics="",
    web="",
    database_url=SecretStr(""),
    kafka_brokers="",
    dynamo_endpoint="",
    minio_endpoint="",
    aws_region="",
    aws_access_key_id="",
    aws_secret_access_key=SecretStr(""),
    minio_access_key="",
    minio_secret_key=SecretStr(""),
    recent_events_table=RECENT,
    aggregates_table=AGGREGATES,
    checkpoints_table=CHECKPOINTS,
    archive_bucket=BUCKET,
    low_stock_threshold=5,
    archive_rotate_seconds=1.0,
)


@dataclass(slots=True)
class Operator:
    """One for all sinks."""

    stores: Stores
    slots: Sequence[Slot]
    _told: str = ""

    def look_on(self) -> None:
        """Again and again."""
        self.look()
        self.stores.world.at(LOOK_SECONDS, self.look_on)

    def look(self) -> None:
        """Once."""
        unadopted = self.stores.log.unadopted
        if all(slot.has_noticed(topic) for slot in self.slots for topic in unadopted):
            self._adopt()
        for slot in self.slots:
            reason = (slot.halted or "").partition(":")[0]
            if reason == "topic_recreated":
                continue
            if reason == "offset_out_of_range":
                self._skip(slot.sink)
            elif reason:
                self.stores.world.broken.append(f"halted: {slot.halted}")

    def _adopt(self) -> None:
        stores = self.stores
        notes = _Notes(CHECKPOINTS, cast(Any, stores.dynamo))
        archive = _Archive(S3Bucket(cast(Any, stores.s3), BUCKET, _as_it_is))
        for topic, lives in stores.log.lives.items():
            if len(lives) == 1:
                continue
            old, new = lives[-2:]
            ends = [part.end for part in old.partitions.values()]
            life = NewLife(topic, new.id, len(new.partitions), new.epoch, ends)
            found = [
                _adopted(notes.move(RECENT_SINK, life)),
                *map(_adopted, _adopt(notes, archive, life)),
            ]
            stores.log.unadopted.discard(topic)
            if str(found) != self._told:
                self._told = str(found)
                stores.world.note("operator", "adopts", found)

    def _skip(self, sink: WorkerName) -> None:
        """Of all partitions at once, as the command does; then all processes of the sink anew."""
        stores = self.stores
        if not stores.world.calm or stores.world.waiting:
            return
        store = Store(_TARGET, cast(Any, stores.dynamo), cast(Any, stores.s3))
        for slot in self.slots:
            if slot.sink == sink:
                slot.restart()
        for source in stores.log.sources:
            self._skip_one(store, sink, source)

    def _skip_one(self, store: Store, sink: WorkerName, source: Source) -> None:
        stores = self.stores
        held = stores.log.range(source)
        topic_id = stores.topic_id(source.topic)
        partition = Partition(source.topic, topic_id, source.partition, held.first, held.end)
        standing = store.standing(sink, partition)
        if standing.lost and standing.next is not None:
            store.move(sink, standing)
            span = range(standing.next, held.first)
            stores.skipped.setdefault((sink, topic_id, source.partition), []).append(span)
            stores.world.note("operator", f"lets {sink} leave out of {source}", span)


def _adopted(found: Any) -> str:
    return f"{found.sink}: {found.state}"


def _as_it_is(error: Exception) -> Exception:
    return error
