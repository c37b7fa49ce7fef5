"""An asynchronous client of `/events/stream` that misses nothing and repeats nothing (ADR 0025).

``async with aclosing(StreamClient(url).events()) as events: async for event in events: …`` goes on
for ever, through cuts, restarts and replicas. Guarantees:

- A reconnect sends the last id that a complete block carried, id-only blocks included.
- Each event is handed on once, unless ``repeats`` are asked for, by tools that must count them.
- Wherever events may be missing a ``Gap`` is handed on; nothing is ever skipped in silence.
- Waits grow with full jitter from the server's own ``retry`` and are bounded. What
  ``stream.goodbye`` and ``stream.refused`` ask for is waited, within a bound too.
- A connection without a byte, comments included, for two and a half heartbeats is left.
- An answer that is no event stream raises, unless trying again can help (408, 425, 429, 5xx).
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from random import SystemRandom
from typing import Final

from pydantic import SecretStr

from shopstream_stack.sse_client import IDLE_SECONDS_MAX, SseConnection, SseRefused
from shopstream_stack.stream_events import (
    DomainEvent,
    Gap,
    Goodbye,
    Newest,
    Opened,
    Refused,
    StreamEvent,
    read,
)

#: Before the server gives its own ``retry``.
RETRY_SECONDS_DEFAULT: Final = 1.0
RETRY_SECONDS_MAX: Final = 30.0
#: Doublings of the base; beyond them the bound above holds in any case.
DOUBLINGS_MAX: Final = 10
#: Of a wait with full jitter at least this part is waited, so that no draw makes a busy loop.
WAIT_PART_MIN: Final = 0.1
#: What a goodbye or a refusal asks for is waited up to here.
ASKED_SECONDS_MAX: Final = 120.0
_NO_CONTENT: Final = 204

#: Waits so many seconds, or until the event is set.
Wait = Callable[[asyncio.Event, float], Awaitable[None]]


def backoff_seconds(base: float, failures: int, jitter: float) -> float:
    """Full jitter: ``jitter`` (0 ≤ x < 1) of the base doubled a failure, within the bounds.

    From "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    doubled = base * float(2 ** min(failures, DOUBLINGS_MAX))
    ceiling = min(doubled, RETRY_SECONDS_MAX)
    return ceiling * max(jitter, WAIT_PART_MIN)


class StreamClient:
    """Follows one stream until closed.

    ``connects`` counts the answers with 200 so far, ``repeated`` the events that were not handed
    on because they had been. ``cut()`` breaks the present connection, so that the client resumes
    by itself; ``aclose()``, or leaving ``events()``, ends it.
    """

    def __init__(
        self,
        url: str,
        *,
        last_event_id: str = "",
        headers: Mapping[str, str] | None = None,
        token: SecretStr | None = None,
        repeats: bool = False,
        idle_seconds_max: float = IDLE_SECONDS_MAX,
        jitter: Callable[[], float] | None = None,
        wait: Wait | None = None,
    ) -> None:
        self.url = url
        self.last_event_id = last_event_id
        self.connects = 0
        self.repeated = 0
        self._headers = dict(headers or {})
        self._token = token
        self._newest = None if repeats else Newest()
        self._idle_seconds_max = idle_seconds_max
        self._jitter = jitter or SystemRandom().random
        self._wait = wait or plain_wait
        self._connection: SseConnection | None = None
        self._retry_seconds = RETRY_SECONDS_DEFAULT
        self._asked_seconds: float | None = None
        self._failures = 0
        self._goes_on = bool(last_event_id)
        self._lost = False  # not resumed, and not yet told: the server's own reason may follow
        self._closed = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether there is an answer with 200 that has not ended."""
        return self._connection is not None

    @property
    def local_port(self) -> int | None:
        """Of the present connection."""
        return None if self._connection is None else self._connection.local_port

    def cut(self) -> None:
        """Break the present connection, if there is one."""
        if self._connection is not None:
            self._connection.cut()

    async def aclose(self) -> None:
        """End ``events()`` soon, also while it waits for a reconnect."""
        self._closed.set()
        self.cut()

    async def events(self) -> AsyncGenerator[StreamEvent]:
        """What the stream says, connection after connection; ends at a 204.

        Raises SseRefused when the server says no for good, BadStreamEvent and EventTooLong for
        data that no server of ours sends.
        """
        while not self._closed.is_set():
            self._asked_seconds = None
            try:
                async with contextlib.aclosing(self._one_connection()) as events:
                    async for event in events:
                        yield event
            except SseRefused as refusal:
                if refusal.status == _NO_CONTENT:
                    return
                if not refusal.is_temporary:
                    raise
            except (OSError, TimeoutError):
                pass  # a broken or silent connection: resume
            for gap in self._told_lost(None):
                yield gap
            await self._pause()
            self._failures += 1

    async def _one_connection(self) -> AsyncGenerator[StreamEvent]:
        connection = await SseConnection.open(
            self.url,
            last_event_id=self.last_event_id,
            headers=self._request_headers(),
            idle_seconds_max=self._idle_seconds_max,
        )
        async with connection:
            self._connection = connection
            self.connects += 1
            parser = connection.parser
            try:
                while not self._closed.is_set() and (chunk := await connection.read()):
                    for event in parser.feed(chunk):
                        said = read(event)
                        for gap in self._told_lost(said):
                            yield gap
                        # Before the event is handed out: a caller that stops here has seen it.
                        self.last_event_id = event.id
                        for each in self._taken(said):
                            yield each
                    self.last_event_id = parser.last_event_id
            finally:
                self._connection = None
                if parser.retry_ms is not None:
                    self._retry_seconds = parser.retry_ms / 1_000

    def _taken(self, event: StreamEvent) -> tuple[StreamEvent, ...]:
        """What to hand on of an event."""
        if isinstance(event, Goodbye | Refused):
            self._asked_seconds = min(event.retry_ms / 1_000, ASKED_SECONDS_MAX)
            return (event,)
        self._failures = 0
        if isinstance(event, Opened):
            self._lost = self._goes_on and not event.resumed
            self._goes_on = True
            return (event,)
        if isinstance(event, DomainEvent) and not self._is_new(event):
            self.repeated += 1
            return ()
        return (event,)

    def _told_lost(self, following: StreamEvent | None) -> tuple[Gap, ...]:
        """One gap is told once, by the server's reason if the next event gives it."""
        lost, self._lost = self._lost, False
        return (Gap("not_resumed"),) if lost and not isinstance(following, Gap) else ()

    def _is_new(self, event: DomainEvent) -> bool:
        return self._newest is None or self._newest.is_new(event.data)

    def _request_headers(self) -> dict[str, str]:
        if self._token is None:
            return self._headers
        return {**self._headers, "Authorization": f"Bearer {self._token.get_secret_value()}"}

    async def _pause(self) -> None:
        """Wait before the next try: as asked, else with full jitter."""
        seconds = self._asked_seconds
        if seconds is None:
            seconds = backoff_seconds(self._retry_seconds, self._failures, self._jitter())
        await self._wait(self._closed, seconds)


async def plain_wait(closed: asyncio.Event, seconds: float) -> None:
    """So many seconds, or until the event is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await closed.wait()
