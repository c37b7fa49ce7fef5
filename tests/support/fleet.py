"""Many resuming clients on one stream, each with a journal to hold against the broker's log."""

import asyncio
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from shopstream_notifications.broker import Broker
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.log_range import committed_records
from shopstream_stack.stream_client import StreamClient
from shopstream_stack.stream_events import DomainEvent, Gap, Opened

#: Handshakes under way at once.
OPENING_MAX = 200
OPEN_SECONDS_MAX = 120.0
LOOK_SECONDS = 0.1


def mark(value: bytes) -> int:
    """A short stand-in for an event's bytes, so that a million of them fit."""
    return zlib.crc32(value) << 32 | zlib.adler32(value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of all clients together."""

    lost: int
    doubled: int
    foreign: int
    gaps: int
    reconnects: int

    @property
    def holds(self) -> bool:
        return not (self.lost or self.doubled or self.foreign or self.gaps)


class Resuming:
    """One client and what it has received."""

    def __init__(self, url: str) -> None:
        # With repeats: whoever judges "once" must see what came twice.
        self.client = StreamClient(url, repeats=True)
        self.journal = array("Q")
        self.gaps = 0
        self.opened = asyncio.Event()
        #: Seconds of the loop's clock at which it came back.
        self.returned: list[float] = []

    async def run(self) -> None:
        async for event in self.client.events():
            if isinstance(event, DomainEvent):
                self.journal.append(mark(event.data.encode()))
            elif isinstance(event, Opened):
                if self.opened.is_set():
                    self.returned.append(asyncio.get_running_loop().time())
                self.opened.set()
            elif isinstance(event, Gap):
                self.gaps += 1


class Fleet:
    """``async with`` opens all of them, and ends them."""

    def __init__(self, url: str, clients: int) -> None:
        self._all = [Resuming(url) for _ in range(clients)]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        turns = asyncio.Semaphore(OPENING_MAX)

        async def opened(one: Resuming) -> None:
            async with turns:
                self._tasks.append(asyncio.create_task(one.run()))
                await one.opened.wait()

        async with asyncio.timeout(OPEN_SECONDS_MAX), asyncio.TaskGroup() as group:
            for one in self._all:
                group.create_task(opened(one))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one in self._all:
            await one.client.aclose()
        await asyncio.gather(*self._tasks)

    async def complete(self, events: int, *, seconds_max: float) -> None:
        """Wait until each has so many events, at most so long: the verdict says what is missing."""
        deadline = asyncio.get_running_loop().time() + seconds_max
        while any(len(one.journal) < events for one in self._all):
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def returns_a_second(self) -> list[int]:
        """How many came back in each second, from the first that did to the last."""
        moments = [moment for one in self._all for moment in one.returned]
        begin = min(moments, default=0.0)
        counts = Counter(int(moment - begin) for moment in moments)
        return [counts[second] for second in range(max(counts, default=-1) + 1)]

    def verdict(self, published: Iterable[int]) -> Verdict:
        """Compare each journal with the marks of what was published meanwhile."""
        wanted = Counter(published)
        lost = doubled = foreign = 0
        for one in self._all:
            got = Counter(one.journal)
            lost += (wanted - got).total()
            more = got - wanted
            foreign += sum(count for value, count in more.items() if value not in wanted)
            doubled += sum(count for value, count in more.items() if value in wanted)
        gaps = sum(one.gaps for one in self._all)
        reconnects = sum(one.client.connects - 1 for one in self._all)
        return Verdict(lost, doubled, foreign, gaps, reconnects)


class Log:
    """The stream's topics on the broker, from one moment to another."""

    def __init__(self, brokers: str) -> None:
        self._connection = KafkaConnection(brokers, "test-fleet")
        self._broker = Broker(self._connection)
        self._parts = self._broker.topology().parts
        self._begin = self._broker.stable_ends(self._parts)

    def marks(self) -> list[int]:
        """Of all events since this was made."""
        end = self._broker.stable_ends(self._parts)
        messages = committed_records(self._connection, self._begin, end)
        return [mark(message.value() or b"") for message in messages]
