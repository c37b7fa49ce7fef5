"""The archive as a sink: fill a file, store it as the next link of the chain, move the hint.

Protocol rules 22-24. The chain itself is the checkpoint. The hint only says where to start: a crash
between object and hint makes the next writer read the same records again and build a file with the
same key; the store answers that it is there, and the writer continues at that object's ``next``.
"""

import asyncio
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from shopstream_analytics.archive.chain import ChainStore, Hint, Link, object_key
from shopstream_analytics.archive.file import OpenFile
from shopstream_analytics.consumer.batch import Batch, Record, Source
from shopstream_analytics.sink import LogRange, StoreLost, TopicRecreated, Topics, check_range
from shopstream_analytics.timing import monotonic
from shopstream_shared.crash import CrashPoints
from shopstream_shared.logs import get_logger

GROUP: Final = "analytics-archive"
#: Between two turns of the loop: some milliseconds of work.
SLICE_BYTES: Final = 524_288
SLICE_RECORDS: Final = 512
#: What the open files of a worker may hold before the largest are stored early.
HELD_BYTES: Final = 67_108_864

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is cut, whichever comes first; the hour cuts it, too (protocol rule 24).

    ``bytes`` are counted before compression; ``held_bytes`` after it, over all partitions of the
    worker (see `Held`).
    """

    bytes: int
    records: int
    seconds: float
    held_bytes: int = HELD_BYTES


class BucketSetUp(Protocol):
    """Makes or checks the bucket. Blocking work runs in a thread."""

    async def __call__(self) -> None:
        """Raises SinkUnavailable."""
        ...


class Held:
    """What the open files of a worker hold in memory, together.

    Beyond ``bytes_max`` each file with its fair share of that is stored early, so the sum stays
    below twice of it, however many partitions there are and however badly they compress.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._partitions: weakref.WeakSet[PartitionArchive] = weakref.WeakSet()

    def add(self, partition: "PartitionArchive") -> None:
        """Count a partition in for as long as it is used."""
        self._partitions.add(partition)

    def too_much(self, held: int) -> bool:
        """Whether a file that holds so much is to be stored now."""
        total = sum(partition.held_bytes for partition in self._partitions)
        return total > self._bytes_max and held * len(self._partitions) >= self._bytes_max


class PartitionArchive:
    """The chain of one partition, from where it ends."""

    def __init__(
        self,
        source: Source,
        topic_id: str,
        position: int,
        *,
        epoch: int = 0,
        store: ChainStore,
        rotation: Rotation,
        held: Held,
        crash: CrashPoints,
    ) -> None:
        self._source = source
        self._topic_id = topic_id
        self._epoch = epoch
        self._store = store
        self._rotation = rotation
        self._held = held
        self._crash = crash
        #: Everything before it is in the file or stored; another writer may have gone further.
        self._position = position
        self._file = OpenFile(start=position, next=position, opened_at=0.0)
        held.add(self)

    @property
    def durable(self) -> int:
        # Without lines nothing is held back: what lies between was markers.
        return self._file.start if self._file.count else self._position

    @property
    def held_bytes(self) -> int:
        return self._file.held_bytes

    async def write(self, batch: Batch) -> None:
        """Take records in, storing files as they fill. What is in already is passed over."""
        if self._file.sealed or self._full:
            # The try before this one could not store it.
            await self._store_file()
        records = batch.records
        index = self._behind(records, 0)
        while index < len(records):
            if self._file.cuts_before(records[index]):
                await self._store_file()
            else:
                index = self._fill(records, index)
                if self._full:
                    await self._store_file()
                else:
                    # A large batch must not keep the worker from its heartbeats.
                    await asyncio.sleep(0)
            index = self._behind(records, index)
        self._position = max(self._position, batch.next)
        if self._file.count:
            self._file.next = self._position

    def _behind(self, records: Sequence[Record], index: int) -> int:
        """The first record from an index on that is not stored yet; a rival may have gone ahead."""
        while index < len(records) and records[index].offset < self._position:
            index += 1
        return index

    def _fill(self, records: Sequence[Record], index: int) -> int:
        """Put the next records into the file; returns the index after them."""
        file = self._file
        if not file.count:
            file.opened_at = monotonic()
        index = file.take(
            records,
            index,
            bytes_max=min(SLICE_BYTES, self._rotation.bytes - file.raw_bytes),
            most=min(SLICE_RECORDS, self._rotation.records - file.count),
        )
        self._position = file.next
        return index

    def due_in(self) -> float | None:
        if not self._file.count:
            return None
        return max(0.0, self._file.opened_at + self._rotation.seconds - monotonic())

    async def flush(self) -> None:
        """Store the open file, also a young one, and what a rival's shorter file leaves of it."""
        while self._file.count:
            await self._store_file()

    @property
    def _full(self) -> bool:
        file = self._file
        return (
            file.raw_bytes >= self._rotation.bytes
            or file.count >= self._rotation.records
            or (file.count > 0 and self._held.too_much(file.held_bytes))
        )

    async def _store_file(self) -> None:
        """Store the open file and begin the next one where the chain ends then."""
        file = self._file
        body, link = file.seal(self._topic_id)
        key = object_key(self._source, file.first, file.first_timestamp, self._epoch)
        self._crash.reach("archive.before_put")
        there = await self._store.create(key, body, link)
        self._crash.reach("archive.after_put")
        end = self._end_after(key, link, there)
        self._continue_at(end)
        await self._store.write_hint(self._source, Hint(end, self._topic_id, key), self._epoch)
        self._crash.reach("archive.after_hint")

    def _end_after(self, key: str, ours: Link, there: Link | None) -> int:
        if there is None:
            return ours.next
        if there.topic_id != self._topic_id:
            raise TopicRecreated(f"{key} is of topic id {there.topic_id}, not {self._topic_id}")
        if there.sha256 != ours.sha256:
            log.info("another writer was first", key=key, next=there.next, ours=ours.next)
        return there.next

    def _continue_at(self, end: int) -> None:
        now = monotonic()
        if end >= self._file.next:
            self._file = OpenFile(start=end, next=end, opened_at=now)
        else:
            self._file = self._file.after(self._source, end, now)
        self._position = max(self._position, end)


@dataclass(slots=True)
class ArchiveSink:
    """All partitions' chains in one bucket."""

    store: ChainStore
    set_up: BucketSetUp
    rotation: Rotation
    crash: CrashPoints
    topics: Topics
    _epochs: dict[str, int] = field(default_factory=dict)
    _held: Held = field(init=False)
    #: Whose hint has been seen, in which epoch of its topic: it is never deleted, so without it the
    #: bucket is another one.
    _seen: set[tuple[Source, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._held = Held(self.rotation.held_bytes)

    async def prepare(self, topics: Topics) -> None:
        """See Sink.prepare; a topic's id stands in its hints, and once it has had several, in a
        list of them."""
        self.topics = topics
        await self.set_up()
        for name, state in topics.items():
            self._epochs[name] = await self._epoch(name, state.id)
            for partition in range(state.partitions):
                await self._hint(Source(name, partition))

    async def open(self, source: Source, log: LogRange) -> PartitionArchive:
        """See Sink.open."""
        hint = await self._hint(source)
        position = await self._position(source, hint, log)
        check_range(source, position, log)
        return PartitionArchive(
            source,
            self.topics[source.topic].id,
            position,
            epoch=self._epochs.get(source.topic, 0),
            store=self.store,
            rotation=self.rotation,
            held=self._held,
            crash=self.crash,
        )

    async def ping(self) -> None:
        """See Sink.ping."""
        await self.set_up()

    async def _position(self, source: Source, hint: Hint | None, log: LogRange) -> int:
        """The chain's end, or a place before it from which 412 leads there.

        Where the log has left the hint behind, that way is closed: the next record would get a key
        of its own. A writer that died between object and hint may have stored more than it says.
        """
        hinted = 0 if hint is None else hint.next
        if hinted >= log.first:
            return hinted
        last = await self.store.last(source, self._epochs.get(source.topic, 0))
        if last is None:
            return log.first if hint is None else hinted
        self._require_same(source, last.topic_id)
        return max(hinted, last.next)

    async def _hint(self, source: Source) -> Hint | None:
        epoch = self._epochs.get(source.topic, 0)
        hint = await self.store.read_hint(source, epoch)
        if hint is None and (source, epoch) in self._seen:
            raise StoreLost(
                f"minio: the hint of {source} is gone, and with it perhaps the chain; "
                "see `What fails` in docs/analytics.md"
            )
        if hint is not None:
            self._seen.add((source, epoch))
            self._require_same(source, hint.topic_id)
        return hint

    def _require_same(self, source: Source, archived: str) -> None:
        topic_id = self.topics[source.topic].id
        if archived != topic_id:
            raise TopicRecreated(f"{source.topic} has id {topic_id}; the archive, {archived}")

    async def _epoch(self, topic: str, topic_id: str) -> int:
        lives = await self.store.read_epochs(topic)
        if not lives:
            return 0
        if lives[-1].topic_id != topic_id:
            raise TopicRecreated(f"{topic} has id {topic_id}; the archive, {lives[-1].topic_id}")
        return lives[-1].epoch
