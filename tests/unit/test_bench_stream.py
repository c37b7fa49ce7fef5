"""What the stream's benchmark concludes: which pace was held, and what each filter expects."""

import math
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from shopstream_shared.events.codec import decode
from shopstream_stack.bench.result import Results
from shopstream_stack.bench.stream import rows
from shopstream_stack.bench.stream.feed import TYPES, Feed, of_seller, of_types, type_filters
from shopstream_stack.bench.stream.plan import STREAM_QUICK
from shopstream_stack.bench.stream.rows import StreamBench
from shopstream_stack.bench.stream.steps import Climb, Step, busy_note, figures, step
from shopstream_stack.console import Silent
from shopstream_stack.errors import StackError
from shopstream_stack.kit.generator import Latency, StreamReport

NOTHING = Latency(count=0, p50_ms=0, p99_ms=0, p999_ms=0, max_ms=0)


def report(*, p99_ms: float = 10.0, seconds: float = 1.0, misses: int = 0) -> StreamReport:
    steady = msgspec.structs.replace(NOTHING, count=1_000, p50_ms=5.0, p99_ms=p99_ms)
    return StreamReport(
        open=10,
        opened=10,
        closed=0,
        refused=0,
        reconnected=0,
        deliveries=1_000,
        others=0,
        bytes=1,
        ids=1,
        comments=0,
        controls={},
        seconds=seconds,
        deliveries_per_second=None if misses else 1_000 / seconds,
        steady=steady,
        cut=NOTHING,
        slow=NOTHING,
        resumed=NOTHING,
        lost=misses,
        doubled=0,
        foreign=0,
        misses=misses,
        faults=["lost"] * misses,
        processor_seconds=0.7,
        wall_seconds=1.0,
    )


def test_a_pace_is_held_if_all_came_about_as_fast_as_it_was_sent_and_soon_enough() -> None:
    assert Step(100, 10.0, report(p99_ms=60.0, seconds=10.5)).held(60.0)
    assert not Step(100, 10.0, report(p99_ms=60.1, seconds=10.0)).held(60.0)
    assert not Step(100, 10.0, report(seconds=10.6)).held(60.0)
    assert not Step(100, 10.0, report(misses=1)).held(60.0)


def test_without_a_limit_only_what_is_missing_counts() -> None:
    assert Step(100, 1.0, report(p99_ms=9_999, seconds=9.0)).held(math.inf)
    assert not Step(100, 1.0, report(misses=1)).held(math.inf)


def test_the_highest_rate_is_that_of_the_last_pace_that_was_held() -> None:
    steps = [
        Step(10, 1.0, report(p99_ms=70)),
        Step(10, 1.0, report(p99_ms=20)),
        Step(20, 1.0, report(p99_ms=30)),
        Step(30, 1.0, report(p99_ms=90)),
    ]
    climb = Climb(60.0, 2, steps)
    assert climb.best is steps[2]
    found = climb.figures()
    assert (found["eventsPerSecond"], found["p99Ms"], found["rate"]) == (20, 30, 1_000)
    assert (found["at10P99Ms"], found["at30P99Ms"]) == (20, 90)


def test_with_no_pace_held_or_an_event_missed_there_is_no_rate() -> None:
    assert Climb(60.0, 1, [Step(10, 1.0, report(p99_ms=61))]).figures()["rate"] == 0
    missed = Climb(60.0, 1, [Step(10, 1.0, report(misses=2))])
    assert missed.faults == ("lost", "lost")
    assert missed.figures()["rate"] == 0
    assert figures(report(misses=1))["rate"] == 0


def test_a_busy_generator_is_named() -> None:
    assert "70%" in busy_note(report())
    assert busy_note(msgspec.structs.replace(report(), processor_seconds=0.2)) == ""


@pytest.mark.parametrize("count", [10, 100, 320])
def test_the_filters_differ_and_each_lets_three_of_the_five_types_through(count: int) -> None:
    found = type_filters(count)
    assert len(set(found)) == count
    assert {len(set(one.split(",")) & set(TYPES)) for one in found} == {3}


def test_a_feed_makes_short_events_that_our_codec_reads() -> None:
    feed = Feed("localhost:1", lines=10, sellers=5)
    event = feed._next(feed.lines[3])
    assert decode(event.value).envelope.subject == feed.lines[3].subject
    assert (event.sequence, event.type) == (1, TYPES[3])
    assert 350 < feed.event_bytes < 450


def test_what_is_expected_is_what_was_sent_and_wanted() -> None:
    feed = Feed("localhost:1", lines=10, sellers=5)
    for line, count in zip(feed.lines, (3, 2, 1), strict=False):
        for _ in range(count):
            feed._next(line)
    names = [f"shop.inventory {line.subject}" for line in feed.lines]
    assert feed.expected() == {names[0]: (1, 3), names[1]: (1, 2), names[2]: (1, 1)}
    assert feed.expected(of_seller("s001")) == {names[1]: (1, 2)}
    assert feed.expected(of_types([TYPES[2], TYPES[0]])) == {names[0]: (1, 3), names[2]: (1, 1)}


def test_no_two_feeds_share_a_subject() -> None:
    first, second = (Feed("localhost:1", lines=3, sellers=1) for _ in range(2))
    assert not {line.subject for line in first.lines} & {line.subject for line in second.lines}


class _Streams:
    """A generator that has missed something before the step, in it, or nothing."""

    def __init__(self, *reports: StreamReport) -> None:
        self._reports = list(reports)
        self.orders: list[str] = []

    def settle(self, *_: object) -> StreamReport:
        self.orders.append("settle")
        return self._reports.pop(0)

    def begin(self) -> None:
        self.orders.append("begin")

    def cut(self, _connections: int) -> None:
        raise AssertionError("the row was to end before")


class _NoFeed:
    def warm(self, *_: object) -> None:
        """Nothing is sent."""

    run = warm

    def expected(self, *_: object) -> dict[str, tuple[int, int]]:
        return {}


def test_what_was_missed_before_a_step_is_not_forgotten_by_its_beginning() -> None:
    feed = cast("Any", _NoFeed())
    broken = _Streams(report(misses=1))
    assert step(cast("Any", broken), feed, 10, 1.0).report.faults == ["lost"]
    assert broken.orders == ["settle"]
    whole = _Streams(report(), report(p99_ms=7.0))
    assert step(cast("Any", whole), feed, 10, 1.0).report.steady.p99_ms == 7.0
    assert whole.orders == ["settle", "begin", "settle"]


class _Here:
    """A place whose streams have missed something."""

    brokers = "localhost:1"

    def serve(self, *_: object, **__: object) -> None:
        """It runs."""

    def streams(self, *_: object) -> AbstractContextManager[_Streams]:
        return nullcontext(_Streams(report(misses=1)))


def test_a_miss_before_the_cut_ends_that_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "Feed", lambda *_, **__: _NoFeed())
    here, plan = cast("Any", _Here()), STREAM_QUICK
    bench = StreamBench(here, here, plan, Results(), _warm={(*plan.few, 1)})
    with pytest.raises(StackError, match="lost"):
        bench._cut("cut")


class _Nowhere:
    """A place on which nothing can be started."""

    system = SimpleNamespace(reporter=Silent())

    def serve(self, *_: object, **__: object) -> None:
        raise StackError("it did not start")

    def take(self) -> int:
        raise StackError("there is no port")

    def stop(self) -> None:
        """Nothing runs."""


def test_a_row_that_fails_is_wrong_and_the_others_are_tried() -> None:
    results = Results()
    nowhere = cast("Any", _Nowhere())
    StreamBench(nowhere, nowhere, STREAM_QUICK, results).run()
    assert len(results.rows) == 10
    assert {row.verdict() for row in results.rows} == {"WRONG"}
    assert results.rows[0].faults == ("it did not start",)
