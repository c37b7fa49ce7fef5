"""What counts as arrived, which gaps were meant, and what a moved clock's events are not."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shopstream_shared.clock import ManualClock, epoch_ms
from shopstream_stack.chaos.acts import Acts
from shopstream_stack.chaos.recovery import Recovery
from shopstream_stack.chaos.schedule import Fault
from shopstream_stack.chaos.settled import Settled
from shopstream_stack.chaos.storm import _Run
from shopstream_stack.chaos.tail import WAITED_MS_MAX, Tail
from shopstream_stack.demo.crowd import Crowd
from shopstream_stack.demo.evidence import WatcherReading
from shopstream_stack.errors import StackError

NOW = datetime(2031, 3, 1, 12, tzinfo=UTC)
NOW_MS = epoch_ms(NOW)


@dataclass
class Message:
    """What the tail looks at of a record."""

    at_ms: int
    number: int = 0
    type: str = "order.created"

    def error(self) -> None:
        return None

    def headers(self) -> list[tuple[str, bytes]]:
        return [("ce_type", self.type.encode()), ("ce_sellerid", b"s")]

    def timestamp(self) -> tuple[int, int]:
        return 1, self.at_ms

    def topic(self) -> str:
        return "shop.orders"

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return self.number


def tail_of(*messages: Message) -> Tail:
    tail = Tail("127.0.0.1:1", ManualClock(NOW))
    for message in messages:
        tail._take(cast("Any", message))
    return tail


def settled(tail: Tail, *readings: WatcherReading) -> Settled:
    watchers = [SimpleNamespace(reading=reading) for reading in readings]
    return Settled(cast("Any", None), tail, Crowd(cast("Any", watchers)))


@pytest.mark.parametrize("off_ms", [40 * 86_400_000, 1, -WAITED_MS_MAX - 1, -6 * 86_400_000])
def test_an_event_of_a_wrong_clock_is_counted_but_proves_no_recovery_and_no_lag(
    off_ms: int,
) -> None:
    tail = tail_of(Message(NOW_MS - 250), Message(NOW_MS + off_ms))
    assert tail.published == 2
    assert tail.newest_ms == NOW_MS - 250
    assert tail.take_slowest() == 0.25


def test_the_tail_knows_where_the_next_event_of_a_partition_is_to_come() -> None:
    tail = tail_of(Message(NOW_MS, 4), Message(NOW_MS, 9))
    assert tail.positions == {("shop.orders", 2): 10}


def test_a_gap_that_was_meant_excuses_what_is_in_it_and_nothing_after() -> None:
    tail = tail_of(*[Message(NOW_MS, number) for number in range(5)])
    reading = WatcherReading("orders", "orders", ("order.*",))
    reading.receipts = cast("Any", [1, 2, 3])
    watch = settled(tail, reading)
    reading.gaps.append("Gap(unknown_epoch)")
    assert watch.unmeant_gaps() == ["orders: Gap(unknown_epoch)"]
    # All of it lay there when its stream was open again.
    assert watch.excuse(reading, {("shop.orders", 2): 5}) == 2
    assert watch.unmeant_gaps() == []
    reading.gaps.append("Gap(evicted)")
    assert watch.unmeant_gaps() == ["orders: Gap(evicted)"]


@pytest.mark.parametrize(("end", "excused"), [(0, 0), (1, 1), (2, 2), (5, 2)])
def test_what_came_after_a_stream_was_open_again_is_in_no_gap(end: int, excused: int) -> None:
    tail = tail_of(*[Message(NOW_MS, number) for number in range(5)])
    reading = WatcherReading("orders", "orders", ("order.*",))
    reading.receipts = cast("Any", [1, 2, 3])
    watch = settled(tail, reading)
    assert watch.excuse(reading, {("shop.orders", 2): end}) == excused
    assert watch.excused == {"orders": excused}


def test_what_a_client_never_got_of_the_old_topics_is_in_no_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tail = tail_of(*[Message(NOW_MS, number) for number in range(5)])
    monkeypatch.setattr(tail, "_follow", lambda _: None)
    monkeypatch.setattr(tail, "_reader", SimpleNamespace(ends=dict))
    tail.follow_again(new_topics=True)
    tail._take(cast("Any", Message(NOW_MS, 0)))
    reading = WatcherReading("orders", "orders", ("order.*",))
    # One of the old topics' and the new one are missing: only the latter can be in the gap.
    reading.receipts = cast("Any", [1, 2, 3, 4])
    assert settled(tail, reading).excuse(reading, {("shop.orders", 2): 9}) == 1


def test_a_client_that_comes_back_from_topics_that_are_gone_without_a_word_is_a_fault() -> None:
    told, silent, other = (WatcherReading(name, name) for name in ("told", "silent", "other"))
    told.gaps.append("Gap(reason='unknown_epoch')")
    other.gaps.append("Gap(reason='evicted')")
    watch = settled(tail_of(), told, silent, other)
    act = Acts(cast("Any", None), watch.tail, watch, cast("Any", None), 0.0)
    found = Recovery(Fault(0.0, "recreate", "topics"), "topics", 0.0)
    act._told_of_the_gap(found, {})
    assert found.wrong == ["silent was not told of a gap", "other was not told of a gap"]
    assert found.notes == ["1 clients told unknown_epoch, 0 deliveries in the gap"]


def test_the_manual_of_topics_names_what_an_act_waits_for() -> None:
    docs = Path(__file__).parents[2] / "docs"
    assert "topic_recreated" in (docs / "topics.md").read_text()
    assert "offset_out_of_range" in (docs / "analytics.md").read_text()


class Seller:
    """Has done something once its move has ended."""

    def __init__(self) -> None:
        self.moves = 0

    async def move(self) -> None:
        self.moves += 1


class Refused(Acts):
    """A command of the act is refused while the load runs."""

    async def _expand(self, found: Recovery) -> None:
        async with self.load():
            await asyncio.sleep(0)
            raise StackError("readers stay behind")


def test_what_is_refused_in_an_act_is_noted_and_its_load_is_over() -> None:
    """Whatever a block under load raises, the run goes on: to the next act, and to `verify`."""
    seller = Seller()
    run = SimpleNamespace(plan=SimpleNamespace(writes_per_second=6_000.0))

    async def play() -> Recovery:
        async with asyncio.TaskGroup() as tasks:
            load = partial(_Run._loaded, cast("Any", run), tasks, cast("Any", [seller]))
            act = Refused(cast("Any", None), tail_of(), settled(tail_of()), load, 0.0)
            return await act("expand")

    found = asyncio.run(play())
    assert found.wrong == ["readers stay behind"]
    assert seller.moves
