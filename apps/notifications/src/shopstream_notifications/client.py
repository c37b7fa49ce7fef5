"""One open stream: how bytes get to its socket, and how the socket goes away.

An idle client has no task and no queue: it is a few slots in a set. A socket with room is written
to at once; only a client that has to wait for room gets a task.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, Literal

from shopstream_notifications.filters import Filter
from shopstream_notifications.limits import NOWHERE, Place
from shopstream_notifications.wire import LAST_CHUNK, Chunk, Flow, Transport

#: A closing client may take what its socket holds; then the socket is aborted (closing alone waits
#: for unsent bytes for ever).
CLOSE_SECONDS_MAX: Final = 3.0

Policy = Literal["resume", "drop", "latest"]


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
        "flow",
        "number",
        "place",
        "policy",
        "since",
        "task",
        "transport",
    )

    def __init__(
        self, number: int, transport: Transport, flow: Flow, wanted: Filter, policy: Policy
    ) -> None:
        self.number = number
        self.transport = transport
        self.flow = flow
        self.filter = wanted
        self.policy = policy
        #: Index of the next record in the shared log; kept up to date only while not live.
        self.cursor = 0
        #: What the group had sent when this client fell behind.
        self.behind_from = Mark()
        self.task: asyncio.Task[None] | None = None
        self.closed = False
        #: Who it is, as far as limits and operators are concerned, and since when (epoch seconds).
        self.place: Place = NOWHERE
        self.since = 0.0

    async def write(self, chunk: Chunk) -> None:
        """Send from a task of this client's own; waits while the socket is full."""
        if self.flow.write_paused:
            await self.flow.drain()
        if not self.transport.is_closing():
            self.transport.write(chunk)

    def nudge(self, chunk: Chunk) -> bool:
        """Send what may be left out (a heartbeat); False when the socket has no room."""
        if self.closed or self.flow.write_paused or self.transport.is_closing():
            return False
        self.transport.write(chunk)
        return True

    def close(self) -> None:
        """End the response, flush what is buffered within CLOSE_SECONDS_MAX, drop the socket."""
        if not self.transport.is_closing():
            self.transport.write(LAST_CHUNK)
            self.transport.close()
        asyncio.get_running_loop().call_later(CLOSE_SECONDS_MAX, self.transport.abort)
