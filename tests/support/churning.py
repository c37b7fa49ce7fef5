"""Connections that come and go in every way there is, as fast as one loop can make them."""

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final

#: Connections under way at once.
AT_ONCE: Final = 50
#: Of the loopback network, so that closed connections' ports do not run out.
SOURCES: Final = tuple(f"127.0.0.{number}" for number in range(1, 51))
ANSWER_SECONDS_MAX: Final = 30.0
READ_BYTES: Final = 65_536
_LINGER_NOT: Final = struct.pack("ii", 1, 0)

_STREAM: Final = b"GET /events/stream?sellerId=none HTTP/1.1\r\nHost: x\r\n\r\n"
_SHORT: Final = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


async def _closed(connection: socket.socket) -> None:
    """As a browser that leaves the page."""
    await _answer(connection, _STREAM, b"stream.open")


async def _half_closed(connection: socket.socket) -> None:
    """A client that says it has no more to say; the server ends the stream."""
    await _answer(connection, _STREAM, b"stream.open")
    connection.shutdown(socket.SHUT_WR)
    await _to_end(connection)


async def _reset(connection: socket.socket) -> None:
    """A client that dies in the middle of a stream."""
    await _answer(connection, _STREAM, b"stream.open")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


async def _reset_early(connection: socket.socket) -> None:
    """One that dies before its answer."""
    await asyncio.get_running_loop().sock_sendall(connection, _STREAM)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


async def _reset_idle(connection: socket.socket) -> None:
    """One that dies between two requests, while the server keeps the connection for the next."""
    await _answer(connection, _SHORT, b"healthy")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


async def _pipelined(connection: socket.socket) -> None:
    """One that asks again behind a stream, whose answer has no end."""
    await _answer(connection, _STREAM, b"stream.open")
    await asyncio.get_running_loop().sock_sendall(connection, _SHORT)
    await _to_end(connection)


Way = Callable[[socket.socket], Awaitable[None]]
WAYS: Final[tuple[Way, ...]] = (
    _closed,
    _half_closed,
    _reset,
    _reset_early,
    _reset_idle,
    _pipelined,
)


async def churn(port: int, connects: int) -> None:
    """Make and end so many connections, each way as often as the others."""
    loop = asyncio.get_running_loop()
    numbers = iter(range(connects))
    sources = itertools.cycle(SOURCES)

    async def work() -> None:
        for number in numbers:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_IP, _BIND_LATER, 1)
                connection.bind((next(sources), 0))
                async with asyncio.timeout(ANSWER_SECONDS_MAX):
                    await loop.sock_connect(connection, ("127.0.0.1", port))
                    await WAYS[number % len(WAYS)](connection)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


#: IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, when the whole four-tuple is known.
_BIND_LATER: Final = 24


async def _answer(connection: socket.socket, request: bytes, sign: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, request)
    answer = b""
    while sign not in answer:
        chunk = await loop.sock_recv(connection, READ_BYTES)
        if not chunk:
            raise ConnectionError(f"the server ended after {answer!r}")
        answer += chunk


async def _to_end(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionResetError):
        while await loop.sock_recv(connection, READ_BYTES):
            pass
