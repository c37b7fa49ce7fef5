"""A network link that can be made bad: a TCP proxy between one process and one server.

Guarantees, each for the connections of this link alone:

- without a fault every byte passes, in order, and an end of one side becomes the other's;
- ``cut_after``: exactly so many more bytes of the server reach clients, over all connections
  together; then both sides of the one that carried the last of them are reset; again, so many
  times;
- ``go_silent``: the present connections stay open and nothing passes on them any more, not even
  their end; new ones work. ``heal`` resets them;
- ``lose_answers``: the next answers that say a commit has happened never arrive; each time both
  sides are reset;
- ``slow``: each chunk waits so long, both ways;
- ``refusing``: all connections are reset and nobody listens: new ones are refused.

Lives in one event loop; what waits for a slow reader is bounded by the sockets' own buffers.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from shopstream_stack.chaos.conversation import Conversation, Deaf
from shopstream_stack.ports import LOOPBACK

CHUNK_BYTES: Final = 65_536
CONNECT_SECONDS_MAX: Final = 3.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(eq=False, slots=True)
class _Connection:
    """A client's connection and ours to the server."""

    client: Streams
    server: Streams
    talk: Conversation
    silent: bool = False
    reset: asyncio.Event = field(default_factory=asyncio.Event)

    def abort(self) -> None:
        self.reset.set()
        for _, writer in (self.client, self.server):
            writer.transport.abort()


class Link:
    """Listens on ``port`` of the loopback address and passes on to ``server_port``."""

    def __init__(
        self, port: int, server_port: int, conversation: Callable[[], Conversation] = Deaf
    ) -> None:
        self.port = port
        self.server_port = server_port
        #: How many connections were cut and how many answers were lost, ever.
        self.cuts = self.lost = 0
        self._conversation = conversation
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._delay_seconds = 0.0
        self._cut_bytes = self._cut_left = self._cut_times = self._lose_times = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Link"]:
        """Pass on for the length of the block. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)
        try:
            yield self
        finally:
            await self._close()

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Refuse all connections for the length of the block."""
        await self._close()
        try:
            yield
        finally:
            self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        # Bounded: a reset ends the pumps, and connecting has its own bound.
        await asyncio.gather(*self._tasks)
        if self._server is not None:
            await self._server.wait_closed()

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    def slow(self, seconds: float) -> None:
        self._delay_seconds = seconds

    def cut_after(self, bytes_more: int, times: int = 1) -> None:
        self._cut_bytes = self._cut_left = bytes_more
        self._cut_times = times

    def go_silent(self) -> None:
        for connection in self._connections:
            connection.silent = True

    def lose_answers(self, times: int = 1) -> None:
        self._lose_times = times

    def heal(self) -> None:
        """End every fault."""
        self._delay_seconds = 0.0
        self._cut_times = self._lose_times = 0
        for connection in list(self._connections):
            if connection.silent:
                connection.abort()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours, not the server's: it is waited for at the end.
        task = asyncio.get_running_loop().create_task(self._pass_on(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                server = await asyncio.open_connection(LOOPBACK, self.server_port)
        except (OSError, TimeoutError):
            writer.transport.abort()
            return
        connection = _Connection((reader, writer), server, self._conversation())
        for one in (writer, server[1]):
            # What was written has left the process once it is drained: bytes can be counted.
            one.transport.set_write_buffer_limits(0)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._requests(connection))
                pumps.create_task(self._answers(connection))
        finally:
            self._connections.discard(connection)
            connection.abort()

    async def _requests(self, connection: _Connection) -> None:
        reader, writer = connection.client[0], connection.server[1]
        async for chunk in self._chunks(connection, reader):
            connection.talk.requests(chunk)
            await _write(writer, chunk)
        await self._end(connection, writer)

    async def _answers(self, connection: _Connection) -> None:
        reader, writer = connection.server[0], connection.client[1]
        async for chunk in self._chunks(connection, reader):
            if connection.talk.answers(chunk) and self._lose_times:
                self._lose_times -= 1
                self.lost += 1
                connection.abort()
                return
            if self._cut_times and len(chunk) >= self._cut_left:
                last = chunk[: self._cut_left]
                # Counted before it is waited: other connections share the count.
                self._cut_times -= 1
                self._cut_left = self._cut_bytes
                self.cuts += 1
                await _write(writer, last)
                connection.abort()
                return
            self._cut_left -= len(chunk) if self._cut_times else 0
            await _write(writer, chunk)
        await self._end(connection, writer)

    async def _chunks(
        self, connection: _Connection, reader: asyncio.StreamReader
    ) -> AsyncIterator[bytes]:
        """What one side sends, held back as the faults demand; ends when it ends or breaks."""
        while not connection.reset.is_set():
            try:
                chunk = await reader.read(CHUNK_BYTES)
            except OSError:
                chunk = b""
            if connection.silent:
                await connection.reset.wait()
            if not chunk or connection.reset.is_set():
                return
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            yield chunk

    async def _end(self, connection: _Connection, writer: asyncio.StreamWriter) -> None:
        """Tell the other side that this one has ended; after a reset there is nobody to tell."""
        if connection.reset.is_set():
            return
        with contextlib.suppress(OSError):
            writer.write_eof()


async def _write(writer: asyncio.StreamWriter, chunk: bytes) -> None:
    # A side that has gone is noticed where it is read.
    with contextlib.suppress(OSError):
        writer.write(chunk)
        await writer.drain()
