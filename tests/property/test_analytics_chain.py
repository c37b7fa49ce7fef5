"""Protocol rules 22-24: whatever borders, crashes and rivals, the chain holds the log once."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.analytics_events import LogRecord, event, inventory_body, record_of

from shopstream_analytics.archive.chain import Hint, Link
from shopstream_analytics.archive.file import unpack
from shopstream_analytics.archive.line import value_of
from shopstream_analytics.archive.sink import ArchiveSink, PartitionArchive, Rotation
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.sink import LogRange, SinkUnavailable, TopicState
from shopstream_shared.crash import CrashPoints
from shopstream_shared.generations import TopicEpoch

SOURCE = Source("shop.inventory", 0)
HOUR_MS = 3_600_000
EVENT = event("inventory.updated", inventory_body("p1", "s1", 1), subject="p1", seller="s1")


@dataclass(slots=True)
class MemoryChain:
    """Create-only objects, as the port promises; calls fail when `fails` says so."""

    objects: dict[str, tuple[bytes, Link]] = field(default_factory=dict)
    hints: dict[Source, Hint] = field(default_factory=dict)
    fails: Callable[[], bool] = field(default=lambda: False)

    async def create(self, key: str, body: bytes, link: Link) -> Link | None:
        if self.fails():
            raise SinkUnavailable("before")
        there = self.objects.setdefault(key, (body, link))
        if self.fails():
            raise SinkUnavailable("after")
        return None if there[0] is body else there[1]

    async def last(self, source: Source, epoch: int = 0) -> Link | None:
        links = (link for _, link in self.objects.values())
        return max(links, key=lambda link: link.first, default=None)

    async def read_hint(self, source: Source, epoch: int = 0) -> Hint | None:
        return self.hints.get(source)

    async def write_hint(self, source: Source, hint: Hint, epoch: int = 0) -> None:
        if self.fails():
            raise SinkUnavailable("hint")
        self.hints[source] = hint

    async def read_epochs(self, topic: str) -> Sequence[TopicEpoch]:
        return ()


async def nothing_to_set_up() -> None:
    """The memory is there."""


def sink_on(chain: MemoryChain, records: int) -> ArchiveSink:
    return ArchiveSink(
        store=chain,
        set_up=nothing_to_set_up,
        rotation=Rotation(bytes=10_000_000, records=records, seconds=3_600),
        crash=CrashPoints(),
        topics={SOURCE.topic: TopicState("id", 1)},
    )


def log_of(steps: list[tuple[int, int]]) -> list[LogRecord]:
    """Records with holes between them (markers) and hours that go forth and back."""
    records: list[LogRecord] = []
    offset = 0
    for hole, hour in steps:
        offset += hole
        record = record_of(EVENT, offset)
        records.append(record._replace(timestamp=record.timestamp + hour * HOUR_MS))
        offset += 1
    return records


def batch_from(log: list[LogRecord], start: int, size: int, end: int) -> Batch:
    """A fetch from a position: some records, and perhaps the markers after them."""
    mine = [record for record in log if record.offset >= start][:size]
    following = [record for record in log if record.offset > mine[-1].offset] if mine else []
    return Batch(SOURCE, start, following[0].offset if following else end, mine)


def assert_whole(chain: MemoryChain, log: list[LogRecord], end: int) -> None:
    links = {link.start: (body, link) for body, link in chain.objects.values()}
    assert len(links) == len(chain.objects)
    position, lines = 0, []
    while position in links:
        body, link = links.pop(position)
        lines += unpack(body).splitlines()
        position = link.next
    assert not links
    assert [json.loads(line)["offset"] for line in lines] == [record.offset for record in log]
    assert all(value_of(line) == EVENT.value for line in lines)
    assert not log or log[-1].offset < position <= end


STEPS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=40)
#: Which writer goes on, how many records it fetches, whether it flushes, is replaced, and fails.
MOVES = st.lists(
    st.tuples(
        st.integers(0, 1), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 6)
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, tail=st.integers(0, 3), moves=MOVES, cut=st.integers(1, 12))
def test_two_rival_writers_with_crashes_leave_one_unbroken_chain(
    steps: list[tuple[int, int]],
    tail: int,
    moves: list[tuple[int, int, bool, bool, int]],
    cut: int,
) -> None:
    log = log_of(steps)
    end = (log[-1].offset + 1 if log else 0) + tail

    async def run() -> None:
        chain = MemoryChain()
        writers = [Writer(chain, log, end, cut) for _ in range(2)]
        for writer, size, flush, replaced, fail_at in moves:
            await writers[writer].move(size, flush=flush, replaced=replaced, fail_at=fail_at)
        chain.fails = lambda: False
        last = Writer(chain, log, end, cut + 1)
        while await last.move(5, flush=False, replaced=False, fail_at=0):
            pass
        await last.move(5, flush=True, replaced=False, fail_at=0)
        assert_whole(chain, log, end)

    asyncio.run(run())


@dataclass(slots=True)
class Writer:
    """A worker's lane on the partition: reads on from its position, and may die at any call."""

    chain: MemoryChain
    log: list[LogRecord]
    end: int
    cut: int
    archive: PartitionArchive | None = None
    position: int = 0

    async def move(self, size: int, *, flush: bool, replaced: bool, fail_at: int) -> bool:
        """One step; False when there was nothing left to read."""
        left = iter(range(fail_at, 0, -1))
        self.chain.fails = lambda: next(left, 0) == 1
        if self.archive is None or replaced:
            sink = sink_on(self.chain, self.cut)
            self.archive = await sink.open(SOURCE, LogRange(0, self.end))
            self.position = self.archive.durable
        more = self.position < self.end
        batch = batch_from(self.log, self.position, size, self.end)
        with contextlib.suppress(SinkUnavailable):
            if more:
                await self.archive.write(batch)
                self.position = batch.next
            if flush:
                await self.archive.flush()
        return more
