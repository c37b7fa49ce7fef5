"""Fifty browsers' worth of SSE clients, one of which is cut and resumes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Final
from urllib.parse import urlencode

from shopstream_stack.demo.evidence import NotAnEvent, Receipt, SeenEvent, WatcherReading
from shopstream_stack.demo.oracle import ExpectedEvent
from shopstream_stack.journal import Journal
from shopstream_stack.stream_client import StreamClient, Wait
from shopstream_stack.stream_events import DomainEvent, Gap, Lagged, Opened, StreamEvent

OPEN_SECONDS_MAX: Final = 20.0
READ_CACHE_MAX: Final = 1_024
_POLL_SECONDS: Final = 0.02

Keep = Callable[[SeenEvent], bool]


class NotOpen(Exception):
    """Not every client had its stream.open in time."""


class Watcher:
    """One client: keeps what ``keep`` says of the events that reach it."""

    def __init__(
        self,
        address: str,
        reading: WatcherReading,
        journal: Journal,
        keep: Keep,
        wait: Wait | None = None,
    ) -> None:
        query = {
            name: value
            for name, value in (
                ("types", ",".join(reading.types)),
                ("sellerId", reading.seller_id or ""),
            )
            if value
        }
        self.reading = reading
        #: The connection, counted as the client does, that last said `stream.open`.
        self.opened = 0
        # With repeats: whoever judges "once" must see what came twice.
        self.client = StreamClient(
            f"{address}/events/stream" + (f"?{urlencode(query)}" if query else ""),
            repeats=True,
            wait=wait,
        )
        self._journal = journal
        self._keep = keep

    async def run(self) -> None:
        """Receive until closed."""
        reading = self.reading
        self._journal.client(reading.name, types=reading.types, seller_id=reading.seller_id)
        async with contextlib.aclosing(self.client.events()) as events:
            async for event in events:
                self._take(event)

    def cut(self) -> None:
        """Break the connection; the client resumes by itself with its last id."""
        self.reading.cuts += 1
        self.client.cut()

    def _take(self, event: StreamEvent) -> None:
        match event:
            case DomainEvent():
                self._take_message(event)
            case Opened(resumed):
                self.opened = self.client.connects
                self.reading.opens.append(resumed)
                self._journal.connected(self.reading.name, resumed=resumed)
            case Gap() | Lagged():
                self.reading.gaps.append(str(event))
                self._journal.gap(self.reading.name, str(event))

    def _take_message(self, event: DomainEvent) -> None:
        at = time.monotonic()
        try:
            seen = _read(event.data)
        except NotAnEvent as error:
            self.reading.gaps.append(f"unreadable: {error}")
            return
        # All of it: a journal that leaves others' events out could not show what is missing.
        self._journal.received(self.reading.name, seen)
        if self._keep(seen):
            self.reading.receipts.append(Receipt(seen, at, self.client.connects))


class Crowd:
    """All watchers of a run."""

    def __init__(self, watchers: list[Watcher]) -> None:
        self.watchers = watchers

    @property
    def readings(self) -> tuple[WatcherReading, ...]:
        return tuple(watcher.reading for watcher in self.watchers)

    def named(self, group: str) -> Watcher:
        """The first watcher of a group. Raises StopIteration when there is none."""
        return next(watcher for watcher in self.watchers if watcher.reading.group == group)

    async def until_complete(self, expected: Iterable[ExpectedEvent], seconds_max: float) -> bool:
        """Wait until every client has what it must have, or the time is over; which it was."""
        events = list(expected)
        wanted = {
            watcher.reading.name: {event.key for event in events if watcher.reading.wants(event)}
            for watcher in self.watchers
        }

        def complete() -> bool:
            return all(
                wanted[reading.name] <= {receipt.event.key for receipt in reading.receipts}
                for reading in self.readings
            )

        return await until(complete, seconds_max)


@asynccontextmanager
async def watching(
    address: str,
    readings: Iterable[WatcherReading],
    journal: Journal,
    keep: Keep,
    *,
    wait: Wait | None = None,
) -> AsyncIterator[Crowd]:
    """Connect every client and wait for its stream.open, so that it misses nothing after.

    Raises NotOpen.
    """
    crowd = Crowd([Watcher(address, reading, journal, keep, wait) for reading in readings])
    async with asyncio.TaskGroup() as tasks:
        for watcher in crowd.watchers:
            tasks.create_task(watcher.run(), name=watcher.reading.name)
        try:
            if not await until(
                lambda: all(reading.opens for reading in crowd.readings), OPEN_SECONDS_MAX
            ):
                raise NotOpen(f"no stream.open within {OPEN_SECONDS_MAX:g} s from {address}")
            yield crowd
        finally:
            for watcher in crowd.watchers:
                await watcher.client.aclose()


def demo_readings(sellers: list[str]) -> list[WatcherReading]:
    """Fifty clients: most want everything, some a seller, some types, some both; one is cut."""
    stock_types = ("inventory.*", "product.low_stock", "product.out_of_stock")
    kinds: list[tuple[str, int, tuple[str, ...], str | None]] = [
        ("everything", 19, (), None),
        *((f"seller {seller}", 4, (), seller) for seller in sellers),
        ("types product.*", 8, ("product.*",), None),
        ("types order.*", 5, ("order.*",), None),
        ("types of stock", 3, stock_types, None),
        ("orders of one seller", 2, ("order.created",), sellers[0]),
        ("cut and resumed", 1, (), None),
    ]
    return [
        WatcherReading(f"{group} #{number}", group, types, seller)
        for group, count, types, seller in kinds
        for number in range(1, count + 1)
    ]


@lru_cache(maxsize=READ_CACHE_MAX)
def _read(data: str) -> SeenEvent:
    """Fifty clients get the same text: reading it once keeps our own cost out of the latency."""
    return SeenEvent.read(data.encode(), "stream")


async def until(done: Callable[[], bool], seconds_max: float) -> bool:
    """Poll until it is so or the time is over; which it was."""
    deadline = time.monotonic() + seconds_max
    while not done():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True
