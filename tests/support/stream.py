"""A stream service without broker and without sockets: the real hub and playback between two ends.

``History`` is what a broker would hold, ``Replica`` one process that reads it in an order of its
own, ``Socket`` one connection whose bytes go through the parser of the SSE client.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from shopstream_notifications import sse
from shopstream_notifications.broker import Topology
from shopstream_notifications.client import Client, Policy
from shopstream_notifications.filters import Filter
from shopstream_notifications.hub import Hub
from shopstream_notifications.limits import Place
from shopstream_notifications.metrics import Metrics
from shopstream_notifications.playback import Beginning, Playback
from shopstream_notifications.records import Offsets, Part, Record
from shopstream_notifications.replay import Slice
from shopstream_notifications.source import Batch, Started
from shopstream_shared.boundaries import Boundary
from shopstream_shared.clock import ManualClock
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.sse_parser import SseEvent, SseParser

T = TypeVar("T")

#: Loop turns after which every task of a simulation waits for its driver.
TURNS = 150
EPOCH = b"epoch1"
PARTS: tuple[Part, ...] = tuple((topic, p) for topic in STREAM_TOPICS for p in range(2))
EVERYTHING = Filter()


def record(part: Part, offset: int, *, subject: str = "", seller: str = "s1") -> Record:
    """An event whose data names its place; odd offsets are updates, even ones creations."""
    return Record(
        part=part,
        offset=offset,
        timestamp_ms=offset,
        type="product.updated" if offset % 2 else "product.created",
        seller_id=seller,
        subject=subject or f"{part[0]}-{part[1]}",
        block=sse.data_block(f"{part[0]} {part[1]} {offset}".encode()),
    )


class History:
    """The broker: records and markers by part. A marker takes an offset and shows nothing."""

    def __init__(self, kinds: Mapping[Part, Iterable[bool]]) -> None:
        self.records: dict[Part, list[Record | None]] = {
            part: [
                record(part, offset) if is_event else None
                for offset, is_event in enumerate(kinds.get(part, ()))
            ]
            for part in PARTS
        }
        self.first: dict[Part, int] = dict.fromkeys(PARTS, 0)
        self.grown: tuple[Boundary, ...] = ()

    def end(self) -> dict[Part, int]:
        return {part: len(records) for part, records in self.records.items()}

    def between(self, part: Part, begin: int, stop: int) -> list[Record]:
        """Fresh copies: each replica writes its own ids into them."""
        found = self.records[part][begin:stop]
        return [record(part, r.offset, subject=r.subject) for r in found if r is not None]

    # The ports of Playback.

    def topology(self) -> Topology:
        return Topology(EPOCH, PARTS)

    def ends(self, parts: Iterable[Part]) -> dict[Part, int]:
        return {part: len(self.records[part]) for part in parts}

    def starts(self, parts: Iterable[Part]) -> dict[Part, int]:
        return {part: self.first[part] for part in parts}

    def at_time(self, parts: Iterable[Part], timestamp_ms: int) -> dict[Part, int]:
        return {part: min(timestamp_ms, len(self.records[part])) for part in parts}

    def boundaries(self) -> Sequence[Boundary]:
        return self.grown

    async def read(self, who: Place, wanted: Filter, begin: Offsets, stop: Offsets) -> Slice:
        """At most three records a part and slice, so that replays take several."""
        reached = {part: min(stop[part], offset + 3) for part, offset in begin.items()}
        records = [r for part in begin for r in self.between(part, begin[part], reached[part])]
        return Slice([r for r in records if wanted.matches(r)], reached)


class Socket:
    """One connection: what was sent, and whether it takes more. Transport and flow control."""

    def __init__(self) -> None:
        self.parser = SseParser()
        self.events: list[SseEvent] = []
        self.raw = b""
        self.write_paused = False
        self.closed = False
        self.aborted = False
        self._room = asyncio.Event()
        self._room.set()

    def block(self) -> None:
        self.write_paused = True
        self._room.clear()

    def unblock(self) -> None:
        self.write_paused = False
        self._room.set()

    async def drain(self) -> None:
        await self._room.wait()

    def write(self, data: bytes) -> None:
        """One chunk or the last one (RFC 9112, section 7.1)."""
        assert not self.closed, "written to after it was closed"
        size, _, rest = data.partition(b"\r\n")
        body = rest[: int(size, 16)]
        assert rest == body + b"\r\n", "a chunk says its size and ends with a line end"
        self.raw += body
        self.events += self.parser.feed(body)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    @property
    def last_id(self) -> str:
        return self.parser.last_event_id

    @property
    def data(self) -> list[str]:
        """The domain events' data."""
        return [event.data for event in self.events if event.is_message]

    def named(self, name: str) -> list[SseEvent]:
        return [event for event in self.events if event.type == name]


class Replica:
    """One process: its hub, how far it has read, its clients. Use inside a running loop."""

    def __init__(
        self,
        history: History,
        *,
        start: Offsets | None = None,
        log_bytes_max: int = 10**6,
        client_bytes_max: int = 10**6,
        playback: type[Playback] = Playback,
    ) -> None:
        self.history = history
        self.position = dict(start or dict.fromkeys(PARTS, 0))
        self.hub = Hub(
            Metrics(CollectorRegistry()),
            ManualClock(datetime(2026, 1, 1, tzinfo=UTC)),
            log_bytes_max=log_bytes_max,
            log_seconds_max=60.0,
            client_bytes_max=client_bytes_max,
        )
        self.hub.started(Started(history.topology(), dict(self.position)))
        self.playback = playback(self.hub, history, history, on_new_parts=lambda _parts: None)

    def read(self, part: Part, stop: int) -> None:
        """Read a part up to ``stop`` as one batch, and pass it on."""
        begin = self.position[part]
        if stop > begin:
            self.position[part] = stop
            records = self.history.between(part, begin, stop)
            self.hub.deliver(Batch(records, {part: stop}))
            self.hub._pass()

    def read_all(self) -> None:
        for part, end in self.history.end().items():
            self.read(part, end)

    async def connect(
        self,
        last_event_id: str = "",
        *,
        wanted: Filter = EVERYTHING,
        policy: Policy = "resume",
        beginning: Beginning | None = None,
    ) -> tuple[Client, Socket]:
        """A client as the endpoint makes it, on a socket of its own."""
        socket = Socket()
        client = self.hub.join(socket, socket, wanted, policy)
        await self.playback.begin(client, beginning or Beginning(last_event_id))
        await settle()
        return client, socket


class _Inline(ThreadPoolExecutor):
    """Questions to the broker are answered in the same step: every run takes the same course."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(error)
        return future


def simulate(run: Coroutine[Any, Any, T]) -> T:
    """Run a simulation: no thread, no clock, no socket."""

    async def inline() -> T:
        asyncio.get_running_loop().set_default_executor(_Inline())
        return await run

    return asyncio.run(inline())


async def settle() -> None:
    """Let every task go on until it waits for something that we do."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
