"""When a file is cut, what is held meanwhile, and that the loop turns (the archive's sink)."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from tests.support.analytics_events import LogRecord, event, inventory_body, record_of

from shopstream_analytics.archive.chain import Hint, Link
from shopstream_analytics.archive.file import unpack
from shopstream_analytics.archive.line import line_of
from shopstream_analytics.archive.sink import (
    SLICE_RECORDS,
    ArchiveSink,
    Held,
    PartitionArchive,
    Rotation,
)
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.sink import LogRange, SinkUnavailable, TopicState
from shopstream_shared.crash import CrashPoints
from shopstream_shared.generations import TopicEpoch

SOURCE = Source("shop.inventory", 0)
HOUR_MS = 3_600_000
EVENT = event("inventory.updated", inventory_body("p1", "s1", 1), subject="p1", seller="s1")
LINE = len(line_of(record_of(EVENT, 0)))
ALL = Rotation(bytes=10**9, records=10**6, seconds=3_600)


@dataclass(slots=True)
class Stored:
    """A store that keeps what it is given, or is away."""

    links: list[Link] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)
    away: bool = False

    async def create(self, key: str, body: bytes, link: Link) -> Link | None:
        if self.away:
            raise SinkUnavailable("away")
        self.links.append(link)
        self.bodies.append(body)
        return None

    async def last(self, source: Source, epoch: int = 0) -> Link | None:
        return self.links[-1] if self.links else None

    async def read_hint(self, source: Source, epoch: int = 0) -> Hint | None:
        return self.hints[-1] if self.hints else None

    async def write_hint(self, source: Source, hint: Hint, epoch: int = 0) -> None:
        self.hints.append(hint)

    async def read_epochs(self, topic: str) -> Sequence[TopicEpoch]:
        return ()

    @property
    def counts(self) -> list[int]:
        return [link.count for link in self.links]


def records(count: int, *, hour: int = 0, start: int = 0) -> list[LogRecord]:
    made = [record_of(EVENT, start + offset) for offset in range(count)]
    return [one._replace(timestamp=one.timestamp + hour * HOUR_MS) for one in made]


def partition(stored: Stored, rotation: Rotation, held: int = 10**9) -> PartitionArchive:
    return PartitionArchive(
        SOURCE,
        "id",
        0,
        store=stored,
        rotation=rotation,
        held=Held(held),
        crash=CrashPoints(),
    )


def write(archive: PartitionArchive, mine: list[LogRecord]) -> None:
    batch = Batch(SOURCE, mine[0].offset, mine[-1].offset + 1, mine)
    asyncio.run(archive.write(batch))


@pytest.mark.parametrize(
    ("rotation", "stored_counts"),
    [
        (ALL, []),
        (Rotation(bytes=10**9, records=3, seconds=3_600), [3, 3, 3]),
        (Rotation(bytes=4 * LINE, records=10**6, seconds=3_600), [4, 4]),
        (Rotation(bytes=1, records=10**6, seconds=3_600), [1] * 10),
    ],
    ids=["none of them", "count", "bytes", "each line"],
)
def test_a_file_is_cut_by_count_and_by_bytes_before_compression(
    rotation: Rotation, stored_counts: list[int]
) -> None:
    stored = Stored()
    # Offsets are of two digits: lines of one length.
    write(partition(stored, rotation), records(10, start=10))
    assert stored.counts == stored_counts


def test_a_file_is_cut_by_a_later_hour_and_keeps_a_record_of_an_earlier_one() -> None:
    stored = Stored()
    archive = partition(stored, ALL)
    mine = [*records(2, hour=5), *records(2, hour=3, start=2), *records(2, hour=6, start=4)]
    write(archive, mine)
    assert stored.counts == [4]
    asyncio.run(archive.flush())
    assert stored.counts == [4, 2]
    assert [(link.start, link.next) for link in stored.links] == [(0, 4), (4, 6)]


def test_a_file_is_due_at_its_age_counted_from_its_first_record() -> None:
    stored = Stored()
    archive = partition(stored, Rotation(bytes=10**9, records=10**6, seconds=50.0))
    assert archive.due_in() is None
    # Nothing came for long: that is no age of a file.
    archive._file.opened_at -= 100
    write(archive, records(1))
    due = due_in(archive)
    assert due is not None
    assert 49 < due <= 50
    overdue = partition(stored, Rotation(bytes=10**9, records=10**6, seconds=0.0))
    write(overdue, records(1))
    assert due_in(overdue) == 0.0


def due_in(archive: PartitionArchive) -> float | None:
    async def ask() -> float | None:
        return archive.due_in()

    return asyncio.run(ask())


def test_a_revoked_partition_stores_what_is_open_and_holds_nothing_back() -> None:
    stored = Stored()
    archive = partition(stored, ALL)
    write(archive, records(3))
    assert archive.durable == 0
    asyncio.run(archive.flush())
    assert (stored.counts, archive.durable, archive.due_in()) == ([3], 3, None)
    asyncio.run(archive.flush())
    assert stored.counts == [3]


def test_a_store_that_comes_back_gets_the_same_file_and_each_record_once() -> None:
    stored = Stored(away=True)
    archive = partition(stored, Rotation(bytes=10**9, records=4, seconds=3_600))
    mine = records(10)
    for _ in range(3):
        with pytest.raises(SinkUnavailable):
            write(archive, mine)
    assert archive.held_bytes < 4 * LINE
    stored.away = False
    write(archive, mine)
    asyncio.run(archive.flush())
    lines = b"".join(map(unpack, stored.bodies)).splitlines()
    assert [json.loads(line)["offset"] for line in lines] == list(range(10))
    assert stored.counts == [4, 4, 2]


def noise(count: int, start: int = 0) -> list[LogRecord]:
    """Records that compress badly."""
    from random import Random  # noqa: PLC0415 - only here

    random = Random(start)
    return [one._replace(value=random.randbytes(2_000)) for one in records(count, start=start)]


def test_what_all_open_files_hold_together_is_bounded_however_badly_they_compress() -> None:
    stored = Stored()
    bytes_max = 200_000
    sink = ArchiveSink(
        store=stored,
        set_up=_nothing,
        rotation=Rotation(bytes=10**9, records=10**6, seconds=3_600, held_bytes=bytes_max),
        crash=CrashPoints(),
        topics={SOURCE.topic: TopicState("id", 10)},
    )
    most = 0

    async def run() -> None:
        nonlocal most
        opened = [
            await sink.open(Source(SOURCE.topic, number), LogRange(0, 10**6))
            for number in range(10)
        ]
        for step in range(20):
            for archive in opened:
                mine = noise(10, start=step * 10)
                await archive.write(Batch(SOURCE, mine[0].offset, mine[-1].offset + 1, mine))
                most = max(most, sum(one.held_bytes for one in opened))
        assert all(archive.held_bytes < bytes_max for archive in opened)

    asyncio.run(run())
    assert bytes_max / 2 < most < 2 * bytes_max
    assert stored.links
    # Files are not cut to crumbs for it: each had its share.
    assert min(stored.counts) * 2_000 > bytes_max / 10 / 2


async def _nothing() -> None:
    """There is no bucket to make."""


def test_partitions_that_were_given_away_do_not_count_against_the_bound() -> None:
    held = Held(1_000)
    stored = Stored()

    def gone() -> None:
        archive = PartitionArchive(
            SOURCE, "id", 0, store=stored, rotation=ALL, held=held, crash=CrashPoints()
        )
        write(archive, noise(1))
        asyncio.run(archive.flush())

    gone()
    assert not held.too_much(10**6)


def test_a_large_batch_lets_the_loop_turn_in_between() -> None:
    archive = partition(Stored(), ALL)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def run() -> None:
        other = asyncio.create_task(count())
        mine = records(SLICE_RECORDS * 5)
        await archive.write(Batch(SOURCE, 0, len(mine), mine))
        other.cancel()

    asyncio.run(run())
    assert turns >= 5
