"""The lanes without a broker: rounds, bounds, retries, and what ends a worker."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from shopstream_analytics.consumer import lane as lane_module
from shopstream_analytics.consumer import lanes as lanes_module
from shopstream_analytics.consumer.batch import Batch, Discontinuity, Source
from shopstream_analytics.consumer.lane import BATCH_BYTES_MAX, FAULT_TRIES_MAX, HANDED_MAX
from shopstream_analytics.consumer.lanes import (
    CALL_SECONDS_MAX,
    HANDED_SECONDS_MAX,
    HELD_BYTES_MAX,
    OPEN_TRIES_MAX,
    AssignmentChanged,
    Lanes,
)
from shopstream_analytics.consumer.records import PackedRecord, packed
from shopstream_analytics.consumer.rounds import (
    GOOD_SECONDS_MAX,
    ROUND_BYTES_FIRST,
    ROUND_BYTES_MAX,
    ROUND_SECONDS_MAX,
    RoundSize,
)
from shopstream_analytics.dead_letters import LettersFenced
from shopstream_analytics.progress import Progress
from shopstream_analytics.sink import (
    LogRange,
    OffsetOutOfRange,
    PartitionSink,
    SinkUnavailable,
    Topics,
)
from shopstream_analytics.worker.watchdog import STUCK_SECONDS_MAX, Stuck, Watchdog

SOURCE = Source("shop.inventory", 0)
OTHER = Source("shop.inventory", 1)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "GATHER_SECONDS", 0)
    monkeypatch.setattr(lane_module, "RETRY_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(lane_module, "RETRY_LAST_SECONDS", 0.001)
    monkeypatch.setattr(lanes_module, "OPEN_RETRY_SECONDS_MAX", 0.001)


@dataclass
class OnePartition:
    """Keeps what it is given; raises what it is told to; waits at a gate."""

    durable: int = 0
    batches: list[Batch] = field(default_factory=list)
    raises: list[Exception] = field(default_factory=list)
    away: bool = False
    tries: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def write(self, batch: Batch) -> None:
        self.tries += 1
        await self.gate.wait()
        if self.away:
            raise SinkUnavailable("away")
        if self.raises:
            raise self.raises.pop(0)
        self.batches.append(batch)
        self.durable = batch.next

    def due_in(self) -> float | None:
        return None

    async def flush(self) -> None:
        """Nothing is held back."""


@dataclass
class AnySink:
    """A sink of the partitions that are asked for."""

    partitions: dict[Source, OnePartition] = field(default_factory=dict)
    opens_after: int = 0
    opened: int = 0

    async def prepare(self, topics: Topics) -> None:
        """Nothing to make."""

    async def open(self, source: Source, log: LogRange) -> PartitionSink:
        self.opened += 1
        if self.opened <= self.opens_after:
            raise SinkUnavailable("away")
        return self.partitions.setdefault(source, OnePartition(log.first))

    async def ping(self) -> None:
        """Always there."""


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


def batch(start: int, end: int, size: int = 0, source: Source = SOURCE) -> Batch:
    return Batch(source, start, end, (), size, 1)


async def opened(sink: AnySink, *sources: Source) -> Lanes:
    lanes = Lanes(sink, Progress())
    await lanes.open({source: LogRange(0, 100) for source in sources or (SOURCE,)})
    lanes.start_generation(1)
    return lanes


async def until(check: Callable[[], object]) -> None:
    """Deadline poll (`run` bounds it): the lane's task needs the loop."""
    while not check():  # noqa: ASYNC110 - the sink is a double
        await asyncio.sleep(0.001)


def test_what_waits_while_a_round_is_written_is_the_next_round() -> None:
    async def test() -> None:
        sink = AnySink()
        lanes = await opened(sink)
        one = sink.partitions[SOURCE]
        one.gate.clear()
        lanes.offer(batch(0, 1))
        await until(lambda: one.tries)
        for start in range(1, 50):
            lanes.offer(batch(start, start + 1))
        one.gate.set()
        await until(lambda: one.durable == 50)
        assert [(b.start, b.next) for b in one.batches] == [(0, 1), (1, 50)]
        await lanes.close(timeout_seconds=1)

    run(test)


def test_a_lane_gathers_as_much_as_its_sink_has_shown_to_take_and_little_once_it_is_away() -> None:
    async def test() -> None:
        sink = AnySink()
        lanes = await opened(sink)
        one = sink.partitions[SOURCE]
        position = 0
        seen = []
        while lanes.room()[SOURCE] < BATCH_BYTES_MAX:
            room = lanes.room()[SOURCE]
            seen.append(room)
            lanes.offer(batch(position, position + 1, room))
            position += 1
            await until(lambda: one.durable == position and not lanes.held_bytes)  # noqa: B023
        assert seen[0] == ROUND_BYTES_FIRST
        assert seen == sorted(set(seen))

        one.away = True
        lanes.offer(batch(position, position + 1, ROUND_BYTES_FIRST))
        await until(lambda: one.tries > position + 1)
        assert lanes.room() == {SOURCE: ROUND_BYTES_FIRST}
        lanes.offer(batch(position + 1, position + 2, ROUND_BYTES_FIRST))
        assert lanes.room() == {}
        await lanes.close(timeout_seconds=1)
        assert one.durable == position

    run(test)


def test_a_round_grows_only_in_good_time_and_shrinks_when_slow_or_when_little_comes() -> None:
    size = RoundSize()
    for _ in range(20):
        size.wrote(size.bytes_max, GOOD_SECONDS_MAX)
    assert size.bytes_max == ROUND_BYTES_MAX
    size.wrote(ROUND_BYTES_MAX, GOOD_SECONDS_MAX + 1)
    assert size.bytes_max == ROUND_BYTES_MAX
    size.wrote(ROUND_BYTES_MAX, ROUND_SECONDS_MAX + 1)
    assert size.bytes_max == ROUND_BYTES_MAX // 2
    size.wrote(size.bytes_max, GOOD_SECONDS_MAX + 1)
    assert size.bytes_max == ROUND_BYTES_MAX // 2
    for _ in range(20):
        size.wrote(1, 0.001)
    assert size.bytes_max == ROUND_BYTES_FIRST


def test_all_lanes_together_stay_below_one_bound_and_none_is_left_without_room() -> None:
    async def test() -> None:
        sources = [Source("t", number) for number in range(40)]
        sink = AnySink()
        lanes = await opened(sink, *sources)
        for one in sink.partitions.values():
            one.gate.clear()
        # Each lane writes a round as large as a fetch brings, and none comes back.
        large = HELD_BYTES_MAX // 20
        for source in sources[:-1]:
            if source in lanes.room():
                lanes.offer(batch(0, 1, large, source))
        assert lanes.held_bytes <= HELD_BYTES_MAX + 39 * large
        full = [source for source in sources[:-1] if source not in lanes.room()]
        assert full
        assert lanes.room()[sources[-1]] == ROUND_BYTES_FIRST
        for one in sink.partitions.values():
            one.gate.set()
        await lanes.close(timeout_seconds=1)

    run(test)


def test_a_partition_has_a_bounded_number_of_batches_on_their_way_through_faust() -> None:
    async def test() -> None:
        lanes = await opened(AnySink())
        for number in range(HANDED_MAX):
            assert SOURCE in lanes.room()
            lanes.hand_over(batch(number, number + 1))
        assert lanes.room() == {}
        lanes.offer(batch(0, 1))
        assert SOURCE in lanes.room()
        await lanes.close(timeout_seconds=1)

    run(test)


def test_a_batch_read_before_the_last_seek_is_dropped() -> None:
    async def test() -> None:
        sink = AnySink({SOURCE: OnePartition(5)})
        lanes = await opened(sink)
        lanes.start_generation(2)
        lanes.offer(batch(0, 9))
        lanes.offer(Batch(SOURCE, 5, 6, (), 0, 2))
        await until(lambda: lanes.durable(SOURCE) == 6)
        assert [b.start for b in sink.partitions[SOURCE].batches] == [5]
        assert not lanes.failed.done()
        await lanes.close(timeout_seconds=1)

    run(test)


def test_a_break_in_the_positions_ends_the_worker_at_once() -> None:
    async def test() -> None:
        lanes = await opened(AnySink({SOURCE: OnePartition(5)}))
        lanes.offer(batch(6, 7))
        assert isinstance(lanes.failed.result(), Discontinuity)
        await lanes.close(timeout_seconds=1)

    run(test)


def test_a_sink_that_is_away_is_tried_for_ever_and_another_error_a_few_times() -> None:
    async def test() -> None:
        sink = AnySink()
        lanes = await opened(sink)
        one = sink.partitions[SOURCE]
        one.away = True
        lanes.offer(batch(0, 1))
        await until(lambda: one.tries > 10 * FAULT_TRIES_MAX)
        one.away = False
        one.raises = [RuntimeError("passing")] * (FAULT_TRIES_MAX - 1)
        await until(lambda: one.durable == 1)
        assert not lanes.failed.done()

        one.raises = [RuntimeError("lasting")] * FAULT_TRIES_MAX
        lanes.offer(batch(1, 2))
        assert str(await lanes.failed) == "lasting"
        assert one.durable == 1
        await lanes.close(timeout_seconds=1)

    run(test)


@pytest.mark.parametrize("error", [OffsetOutOfRange("gone"), LettersFenced("by its heir")])
def test_what_must_not_go_on_is_not_tried_again(error: Exception) -> None:
    async def test() -> None:
        sink = AnySink()
        lanes = await opened(sink)
        sink.partitions[SOURCE].raises = [error]
        lanes.offer(batch(0, 1))
        assert await lanes.failed is error
        assert sink.partitions[SOURCE].tries == 1
        await lanes.close(timeout_seconds=1)

    run(test)


def test_opening_waits_out_a_short_absence_and_gives_up_on_a_long_one() -> None:
    async def test() -> None:
        sink = AnySink(opens_after=OPEN_TRIES_MAX - 1)
        lanes = await opened(sink)
        assert lanes.sources() == (SOURCE,)
        sink.opens_after = 100
        with pytest.raises(SinkUnavailable):
            await lanes.open({SOURCE: LogRange(0, 1)})
        assert lanes.sources() == ()

    run(test)


@pytest.mark.parametrize("way", ["away", "hangs"])
def test_giving_up_a_partition_takes_no_longer_than_it_may_with_the_sink_away(way: str) -> None:
    async def test() -> None:
        sink = AnySink()
        lanes = await opened(sink)
        one = sink.partitions[SOURCE]
        one.away = way == "away"
        if way == "hangs":
            one.gate.clear()
        lanes.offer(batch(0, 1))
        await until(lambda: one.tries)
        await lanes.close(timeout_seconds=0.05)
        assert (one.durable, lanes.sources()) == (0, ())
        assert not lanes.failed.done()

    run(test)


def test_a_call_that_never_ends_and_a_batch_that_never_arrives_are_told() -> None:
    async def test() -> None:
        sink = AnySink()
        lanes = await opened(sink, SOURCE, OTHER)
        loop = asyncio.get_running_loop()
        assert lanes.hangs(loop.time() + 1_000) is None
        sink.partitions[SOURCE].gate.clear()
        lanes.offer(batch(0, 1))
        await until(lambda: sink.partitions[SOURCE].tries)
        assert lanes.hangs(loop.time() + CALL_SECONDS_MAX - 1) is None
        assert "sink hangs" in str(lanes.hangs(loop.time() + CALL_SECONDS_MAX + 1))
        sink.partitions[SOURCE].gate.set()
        await until(lambda: lanes.durable(SOURCE) == 1)

        lanes.hand_over(batch(0, 1, source=OTHER))
        assert lanes.hangs(loop.time() + HANDED_SECONDS_MAX - 1) is None
        assert "reach its lane" in str(lanes.hangs(loop.time() + HANDED_SECONDS_MAX + 1))
        lanes.start_generation(2)
        assert lanes.hangs(loop.time() + 1_000) is None
        await lanes.close(timeout_seconds=1)

    run(test)


class Looks:
    """A watchdog over one idle lane, with a clock of its own."""

    def __init__(self, lanes: Lanes) -> None:
        self.progress = Progress()
        self.now = 1_000.0
        self.end = 0
        self.answers = True
        self.broker = True
        self.assigned: set[Source] = {SOURCE}
        self.dog = Watchdog(
            lanes,
            self.progress,
            ranges=self._ranges,
            assigned=lambda: self.assigned,
            broker_answers=lambda: self.broker,
            clock=lambda: self.now,
        )

    async def _ranges(self) -> dict[Source, LogRange]:
        if not self.answers:
            raise TimeoutError
        return {SOURCE: LogRange(0, self.end)}

    async def through(self, seconds: float) -> None:
        """Look as often as in real life."""
        for _ in range(int(seconds / 5)):
            self.now += 5.0
            await self.dog.look()


def test_the_watchdog_ends_a_worker_whose_records_do_not_come() -> None:
    async def test() -> None:
        lanes = await opened(AnySink())
        looks = Looks(lanes)
        await looks.through(10 * STUCK_SECONDS_MAX)
        looks.end = 5
        await looks.through(STUCK_SECONDS_MAX)
        # Some came: not what there is, but a sign of life.
        lanes.offer(batch(0, 1))
        await looks.through(STUCK_SECONDS_MAX)
        # A sink that is away is no reason.
        looks.progress.sink_away(SOURCE, "away")
        await looks.through(10 * STUCK_SECONDS_MAX)
        looks.progress.sink_back(SOURCE, 0)
        with pytest.raises(Stuck, match="none arrive"):
            await looks.through(2 * STUCK_SECONDS_MAX)
        await lanes.close(timeout_seconds=1)

    run(test)


def test_the_watchdog_ends_a_worker_whose_kafka_client_hangs_while_the_broker_answers() -> None:
    async def test() -> None:
        lanes = await opened(AnySink())
        looks = Looks(lanes)
        looks.answers = looks.broker = False
        await looks.through(10 * STUCK_SECONDS_MAX)
        looks.broker = True
        with pytest.raises(Stuck, match="does not answer"):
            await looks.through(2 * STUCK_SECONDS_MAX)
        await lanes.close(timeout_seconds=1)

    run(test)


def test_the_watchdog_ends_a_worker_whose_partitions_were_never_opened() -> None:
    async def test() -> None:
        lanes = await opened(AnySink())
        looks = Looks(lanes)
        looks.assigned = {SOURCE, OTHER}
        await looks.through(STUCK_SECONDS_MAX)
        looks.assigned = {SOURCE}
        await looks.through(STUCK_SECONDS_MAX)
        looks.assigned = {SOURCE, OTHER}
        with pytest.raises(Stuck, match="not opened"):
            await looks.through(2 * STUCK_SECONDS_MAX)
        await lanes.close(timeout_seconds=1)

    run(test)


def test_the_watchdog_ends_a_worker_in_which_something_hangs() -> None:
    async def test() -> None:
        lanes = await opened(AnySink())
        looks = Looks(lanes)
        looks.now = asyncio.get_running_loop().time()
        await looks.dog.look()
        lanes.hand_over(batch(0, 1))
        await looks.through(HANDED_SECONDS_MAX - 5)
        with pytest.raises(Stuck, match="reach its lane"):
            await looks.through(10)
        await lanes.close(timeout_seconds=1)

    run(test)


def test_a_process_that_stood_still_is_not_taken_for_one_that_hangs() -> None:
    """It was stopped with a batch on its way, whose age is that of the standstill."""

    async def test() -> None:
        lanes = await opened(AnySink())
        looks = Looks(lanes)
        looks.now = asyncio.get_running_loop().time()
        looks.end = 5
        await looks.through(10)
        lanes.hand_over(batch(0, 1))
        looks.now += 10 * STUCK_SECONDS_MAX
        await looks.dog.look()
        lanes.offer(batch(0, 1))
        await looks.through(STUCK_SECONDS_MAX)
        # What has not moved by itself since then does hang.
        lanes.hand_over(batch(1, 2))
        looks.now += 10 * STUCK_SECONDS_MAX
        await looks.dog.look()
        with pytest.raises(Stuck, match="reach its lane"):
            await looks.through(5)
        await lanes.close(timeout_seconds=1)

    run(test)


def test_a_partition_taken_back_while_it_is_opened_leaves_nothing_owned_and_ends_nothing() -> None:
    """The watchdog notices (not opened) should the group fall silent after that."""

    class Reader:
        taken_back = True

        async def log_ranges(self) -> dict[Source, LogRange]:
            return {SOURCE: LogRange(0, 100)}

        async def read_from(self, positions: Mapping[Source, int]) -> int:
            if self.taken_back:
                raise AssignmentChanged("no current assignment")
            return 1

    async def test() -> None:
        lanes = Lanes(AnySink(), Progress())
        reader = Reader()
        await lanes.take_over(reader)
        assert (lanes.sources(), lanes.room(), lanes.failed.done()) == ((), {}, False)
        reader.taken_back = False
        await lanes.take_over(reader)
        assert lanes.sources() == (SOURCE,)
        await lanes.close(timeout_seconds=1)

    run(test)


def test_packed_headers_come_back_as_they_were_repeated_names_and_nulls_included() -> None:
    headers = [("ce_id", b"\xff\x00"), ("own", None), ("own", b""), ("ü", b"2")]
    read = SimpleNamespace(offset=7, timestamp=8, key=b"k", value=None, headers=headers)
    tp: Any = SimpleNamespace(topic="t", partition=3)
    record = packed(tp, read)
    assert isinstance(record, PackedRecord)
    assert (record.topic, record.partition, record.offset) == ("t", 3, 7)
    assert (record.timestamp, record.key, record.value) == (8, b"k", None)
    assert list(record.headers) == headers
