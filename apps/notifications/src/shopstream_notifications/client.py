"""One open stream: how bytes get to its socket, and how the socket goes away.

An idle client has no task and no queue: it is a few slots in a set. Writing drives the server's
``send`` by hand, which for a socket with room ends at once; only a ``send`` that has to wait is
taken over by a task (its future may never be dropped: the bytes would be lost).
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from shopstream_notifications.filters import Filter
from shopstream_notifications.limits import NOWHERE, Place

#: A closing client may take what its socket holds; then the socket is aborted (closing alone waits
#: for unsent bytes for ever).
CLOSE_SECONDS_MAX: Final = 3.0

Policy = Literal["resume", "drop", "latest"]
Send = Callable[[Any], Awaitable[None]]


class Transport(Protocol):
    """What we need of the connection beyond ASGI."""

    def close(self) -> None: ...

    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Mark:
    """What a filter's group had sent in all, at some moment."""

    events: int = 0
    bytes: int = 0


class Client:
    """State is changed by the hub only."""

    __slots__ = (
        "behind_from",
        "closed",
        "cursor",
        "filter",
        "number",
        "place",
        "policy",
        "send",
        "since",
        "task",
        "transport",
        "waiting",
    )

    def __init__(
        self, number: int, send: Send, transport: Transport, wanted: Filter, policy: Policy
    ) -> None:
        self.number = number
        self.send = send
        self.transport = transport
        self.filter = wanted
        self.policy = policy
        #: Index of the next record in the shared log; kept up to date only while not live.
        self.cursor = 0
        #: What the group had sent when this client fell behind.
        self.behind_from = Mark()
        self.task: asyncio.Task[None] | None = None
        #: True while a write waits for the socket.
        self.waiting = False
        self.closed = False
        #: Who it is, as far as limits and operators are concerned, and since when (epoch seconds).
        self.place: Place = NOWHERE
        self.since = 0.0

    async def write(self, body: bytes) -> None:
        """Send from a task of this client's own; waits while the socket is full."""
        self.waiting = True
        try:
            await self.send(_message(body))
        finally:
            self.waiting = False

    def nudge(self, body: bytes) -> bool:
        """Send what may be left out (a heartbeat); False when the socket has no room."""
        if self.waiting or self.closed:
            return False
        rest = start(self.send(_message(body)))
        if rest is None:
            return True
        rest.give_up()
        return False

    def close(self) -> None:
        """End the response, flush what is buffered within CLOSE_SECONDS_MAX, drop the socket."""
        if not self.waiting:
            rest = start(self.send({"type": "http.response.body", "body": b"", "more_body": False}))
            if rest is not None:
                rest.give_up()
        self.transport.close()
        asyncio.get_running_loop().call_later(CLOSE_SECONDS_MAX, self.transport.abort)


class Unfinished:
    """A ``send`` that waits: awaiting this awaits the rest of it."""

    __slots__ = ("_first", "_steps")

    def __init__(self, steps: Generator[Any, Any, None], first: Any) -> None:
        self._steps = steps
        self._first = first

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield self._first
        except BaseException as error:
            self._steps.throw(error)
            raise
        yield from self._steps

    def give_up(self) -> None:
        """Drop it unsent; only for what nobody will miss."""
        self._steps.close()


def start(sending: Awaitable[None]) -> Unfinished | None:
    """Run a ``send`` up to its first wait; None when it did not have to wait."""
    steps = sending.__await__()
    try:
        first = next(steps)
    except StopIteration:
        return None
    return Unfinished(steps, first)


def _message(body: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": True}
