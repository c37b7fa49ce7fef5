"""When clients count as resumed, and when events as delivered again."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from shopstream_shared.clock import ManualClock, SystemClock, format_time
from shopstream_stack.chaos import streams
from shopstream_stack.chaos.faults.stream import most_felt, stalled
from shopstream_stack.chaos.streams import Streams
from shopstream_stack.demo.crowd import Crowd, Watcher
from shopstream_stack.demo.evidence import WatcherReading
from shopstream_stack.journal import Journal
from shopstream_stack.stream_client import StreamClient
from shopstream_stack.stream_events import Opened

SOON = 0.2
NOW = datetime(2031, 3, 1, 12, tzinfo=UTC)


@dataclass
class Client:
    """What a watcher's client shows of itself."""

    is_connected: bool = True
    connects: int = 1
    local_port: int | None = None


@dataclass
class Someone:
    """A watcher with such a client; ``receipts`` are moments."""

    reading: WatcherReading
    client: Client = field(default_factory=Client)
    opened: int = 0

    def hears_the_opening(self) -> None:
        self.opened = self.client.connects

    def received(self, at: float, made: float | None = None) -> None:
        """``made``: the event's own moment, on the same clock."""
        moment = NOW + timedelta(seconds=(at if made is None else made) - time.monotonic())
        event = SimpleNamespace(body=json.dumps({"time": format_time(moment)}))
        receipt = SimpleNamespace(at=at, event=event)
        self.reading.receipts.append(receipt)  # type: ignore[arg-type]


def crowd(*someone: Someone) -> Streams:
    return Streams(Crowd(cast("list[Watcher]", list(someone))), ManualClock(NOW))


def all_and_orders() -> tuple[Someone, Someone]:
    return (
        Someone(WatcherReading("all", "all")),
        Someone(WatcherReading("orders", "orders", ("order.*",))),
    )


def resumed(of: Streams) -> float | None:
    return asyncio.run(of.resumed(time.monotonic(), SOON))


def delivered(of: Streams, since: float) -> float | None:
    return asyncio.run(of.delivered(since, SOON))


def test_streams_have_resumed_when_each_client_heard_the_opening_of_its_present_connection() -> (
    None
):
    one, other = all_and_orders()
    for someone in (one, other):
        someone.hears_the_opening()
    assert resumed(crowd(one, other)) is not None
    other.client.connects = 2
    assert resumed(crowd(one, other)) is None
    other.hears_the_opening()
    assert resumed(crowd(one, other)) is not None
    one.client.is_connected = False
    assert resumed(crowd(one, other)) is None


def test_a_connection_that_was_refused_or_cut_before_its_opening_does_not_count_for_ever() -> None:
    one, _ = all_and_orders()
    one.hears_the_opening()
    # A 200 that is followed by a goodbye, or by nothing.
    one.client.connects = 2
    assert resumed(crowd(one)) is None
    one.client.connects = 3
    one.hears_the_opening()
    assert resumed(crowd(one)) is not None


def test_a_watcher_notes_the_connection_that_was_opened(tmp_path: Path) -> None:
    with Journal.open(tmp_path, "r", SystemClock()) as journal:
        watcher = Watcher("http://127.0.0.1:1", WatcherReading("a", "a"), journal, lambda _: True)
        watcher.client.connects = 4
        assert watcher.opened == 0
        watcher._take(Opened(resumed=True, replay_from=None))
        assert watcher.opened == 4
        assert watcher.reading.opens == [True]


def test_events_are_delivered_when_one_of_after_the_fault_reached_all_who_want_everything() -> None:
    one, orders = all_and_orders()
    since = time.monotonic()
    assert delivered(crowd(one, orders), since) is None
    one.received(since - 1)
    assert delivered(crowd(one, orders), since) is None
    one.received(since + 1, made=since - 5)  # replayed
    assert delivered(crowd(one, orders), since) is None
    one.received(since + 1)
    one.received(since + 1, made=since - 5)
    # Who wants orders alone may have none to get.
    assert delivered(crowd(one, orders), since) is not None


def test_the_worker_is_hit_that_clients_without_a_filter_are_at() -> None:
    all_of_it = WatcherReading("all", "all")
    orders = [WatcherReading(f"orders {n}", "orders", ("order.*",)) for n in range(3)]
    assert most_felt({1: orders, 2: [all_of_it]}) == 2
    assert most_felt({1: orders[:1], 2: orders[1:], 3: []}) == 2


def test_a_worker_that_stands_still_is_felt_by_a_client_that_gets_nothing() -> None:
    one, orders = all_and_orders()
    held = [one.reading, orders.reading]
    one.received(101.0)
    assert stalled(held, 100.0)
    one.received(102.0)
    # That no order came shows nothing.
    assert not stalled(held, 100.0)
    assert not stalled([], 100.0)


def test_clients_are_told_apart_by_their_ends_of_the_connections() -> None:
    one, orders = all_and_orders()
    one.client.local_port, orders.client.local_port = 5, None
    assert crowd(one, orders).at({5, 6}) == [one.reading]


def test_a_client_waits_as_it_is_asked_and_never_backs_off_beyond_a_browser_s_retry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []

    async def note(_: asyncio.Event, seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(streams, "plain_wait", note)
    asyncio.run(streams.as_a_browser(asyncio.Event(), 0.5))
    asyncio.run(streams.as_a_browser(asyncio.Event(), 30.0))
    assert waited == [0.5, streams.RETRY_SECONDS_MAX]


def test_a_client_without_a_connection_says_so() -> None:
    assert not StreamClient("http://127.0.0.1:1/events/stream").is_connected
