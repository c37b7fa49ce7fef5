"""The archive as a sink: fill a file, store it as the next link of the chain, move the hint.

Protocol rules 22-24. The chain itself is the checkpoint. The hint only says where to start: a crash
between object and hint makes the next writer read the same records again and build a file with the
same key; the store answers that it is there, and the writer continues at that object's ``next``.
"""

import time
from dataclasses import dataclass
from typing import Final, Protocol

from shopstream_analytics.archive.chain import ChainStore, Hint, Link, object_key
from shopstream_analytics.archive.file import OpenFile
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.sink import LogRange, TopicRecreated, Topics, check_range
from shopstream_shared.crash import CrashPoints
from shopstream_shared.logs import get_logger

GROUP: Final = "analytics-archive"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is cut, whichever comes first; the hour cuts it, too (protocol rule 24).

    ``bytes`` are counted before compression.
    """

    bytes: int
    records: int
    seconds: float


class BucketSetUp(Protocol):
    """Makes or checks the bucket. Blocking work runs in a thread."""

    async def __call__(self) -> None:
        """Raises SinkUnavailable."""
        ...


class PartitionArchive:
    """The chain of one partition, from where it ends."""

    def __init__(
        self,
        source: Source,
        topic_id: str,
        position: int,
        *,
        store: ChainStore,
        rotation: Rotation,
        crash: CrashPoints,
    ) -> None:
        self._source = source
        self._topic_id = topic_id
        self._store = store
        self._rotation = rotation
        self._crash = crash
        #: Everything before it is in the file or stored; another writer may have gone further.
        self._position = position
        self._file = OpenFile(start=position, next=position, opened_at=time.monotonic())

    @property
    def durable(self) -> int:
        # Without lines nothing is held back: what lies between was markers.
        return self._file.start if self._file.count else self._position

    async def write(self, batch: Batch) -> None:
        """Take records in, storing files as they fill. What is in already is passed over."""
        if self._file.sealed or self._full:
            # The try before this one could not store it.
            await self._store_file()
        for record in batch.records:
            if record.offset < self._position:
                continue
            if self._file.cuts_before(record):
                await self._store_file()
                if record.offset < self._position:
                    continue
            if not self._file.count:
                self._file.opened_at = time.monotonic()
            self._file.add(record)
            self._position = record.offset + 1
            if self._full:
                await self._store_file()
        self._position = max(self._position, batch.next)
        if self._file.count:
            self._file.next = self._position

    def due_in(self) -> float | None:
        if not self._file.count:
            return None
        return max(0.0, self._file.opened_at + self._rotation.seconds - time.monotonic())

    async def flush(self) -> None:
        """Store the open file, also a young one, and what a rival's shorter file leaves of it."""
        while self._file.count:
            await self._store_file()

    @property
    def _full(self) -> bool:
        file = self._file
        return file.raw_bytes >= self._rotation.bytes or file.count >= self._rotation.records

    async def _store_file(self) -> None:
        """Store the open file and begin the next one where the chain ends then."""
        file = self._file
        body, link = file.seal(self._topic_id)
        key = object_key(self._source, file.first, file.first_timestamp)
        self._crash.reach("archive.before_put")
        there = await self._store.create(key, body, link)
        self._crash.reach("archive.after_put")
        end = self._end_after(key, link, there)
        self._continue_at(end)
        await self._store.write_hint(self._source, Hint(end, self._topic_id, key))
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
        now = time.monotonic()
        if end >= self._file.next:
            self._file = OpenFile(start=end, next=end, opened_at=now)
        else:
            self._file = self._file.after(end, now)
        self._position = max(self._position, end)


@dataclass(slots=True)
class ArchiveSink:
    """All partitions' chains in one bucket."""

    store: ChainStore
    set_up: BucketSetUp
    rotation: Rotation
    crash: CrashPoints
    topics: Topics

    async def prepare(self, topics: Topics) -> None:
        """See Sink.prepare; the epochs stand in the hints."""
        self.topics = topics
        await self.set_up()
        for name, state in topics.items():
            for partition in range(state.partitions):
                await self._hint(Source(name, partition))

    async def open(self, source: Source, log: LogRange) -> PartitionArchive:
        """See Sink.open."""
        hint = await self._hint(source)
        position = log.first if hint is None else hint.next
        check_range(source, position, log)
        return PartitionArchive(
            source,
            self.topics[source.topic].id,
            position,
            store=self.store,
            rotation=self.rotation,
            crash=self.crash,
        )

    async def ping(self) -> None:
        """See Sink.ping."""
        await self.set_up()

    async def _hint(self, source: Source) -> Hint | None:
        hint = await self.store.read_hint(source)
        topic_id = self.topics[source.topic].id
        if hint is not None and hint.topic_id != topic_id:
            raise TopicRecreated(f"{source.topic} has id {topic_id}; the archive, {hint.topic_id}")
        return hint
