"""When clients count as resumed, and when events as delivered again."""

import asyncio
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from shopstream_stack.chaos import streams
from shopstream_stack.chaos.streams import Streams
from shopstream_stack.demo.crowd import Crowd, Watcher
from shopstream_stack.demo.evidence import WatcherReading
from shopstream_stack.stream_client import StreamClient

SOON = 0.2


@dataclass
class Client:
    """What a watcher's client shows of itself."""

    is_connected: bool = True
    connects: int = 1


@dataclass
class Someone:
    """A watcher with such a client; ``receipts`` are moments."""

    reading: WatcherReading
    client: Client = field(default_factory=Client)

    def opened(self) -> None:
        self.reading.opens.append(True)

    def received(self, at: float) -> None:
        self.reading.receipts.append(SimpleNamespace(at=at))  # type: ignore[arg-type]


def crowd(*someone: Someone) -> Streams:
    return Streams(Crowd(cast("list[Watcher]", list(someone))))


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
        someone.opened()
    assert resumed(crowd(one, other)) is not None
    other.client.connects = 2
    assert resumed(crowd(one, other)) is None
    other.opened()
    assert resumed(crowd(one, other)) is not None
    one.client.is_connected = False
    assert resumed(crowd(one, other)) is None


def test_events_are_delivered_when_one_of_after_the_fault_reached_all_who_want_everything() -> None:
    one, orders = all_and_orders()
    assert delivered(crowd(one, orders), 100.0) is None
    one.received(99.0)
    assert delivered(crowd(one, orders), 100.0) is None
    one.received(101.0)
    # Who wants orders alone may have none to get.
    assert delivered(crowd(one, orders), 100.0) is not None


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
