"""A small HTTP server that says exactly what a test wants: for what reads event streams."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/event-stream\r\n"
    b"Cache-Control: no-store\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
END_SECONDS_MAX: Final = 10.0


@dataclass(slots=True)
class Peer:
    """One request and what to answer; the connection ends with the script."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader

    async def raw(self, *parts: bytes) -> None:
        """Bytes as they are, each part in a packet of its own."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def head(self) -> None:
        """Begin a stream."""
        await self.raw(STREAM_HEAD)

    async def send(self, body: bytes) -> None:
        """One chunk."""
        await self.raw(b"%x\r\n%s\r\n" % (len(body), body))

    async def finite(self, status: str, body: bytes = b"", *headers: str) -> None:
        """A whole answer."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        await self.raw("\r\n".join(lines).encode() + (b"" if self.method == "HEAD" else body))

    async def gone(self) -> None:
        """Return when the client has closed the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass

    def reset(self) -> None:
        """Cut the connection without an end."""
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass(slots=True)
class SseServer:
    """Runs a script for each request, in a thread of its own."""

    script: Script
    port: int = 0
    seen: list[Peer] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _serve(self, ready: threading.Event, done: asyncio.Event) -> None:
        server = await asyncio.start_server(self._one, "127.0.0.1", 0, backlog=1_024)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await done.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            method, path, _ = first.split(" ")
            pairs = (line.partition(": ") for line in lines)
            headers = {name.lower(): value for name, _, value in pairs}
            peer = Peer(len(self.seen), method, path, headers, writer, reader)
            self.seen.append(peer)
            await self.script(peer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the test has
        except BaseException as error:  # noqa: BLE001 - the test must see it
            self.faults.append(error)
        finally:
            with suppress(ConnectionError, RuntimeError):
                writer.close()


@contextmanager
def serving(script: Script) -> Iterator[SseServer]:
    """A server that runs ``script`` for each request; a failed assertion in one fails the test."""
    server = SseServer(script)
    ready, done = threading.Event(), asyncio.Event()
    thread = threading.Thread(
        target=server._loop.run_until_complete, args=(server._serve(ready, done),)
    )
    thread.start()
    assert ready.wait(END_SECONDS_MAX)
    try:
        yield server
    finally:
        server._loop.call_soon_threadsafe(done.set)
        thread.join(END_SECONDS_MAX)
        server._loop.close()
    assert server.faults == []
