"""An asynchronous SSE client: for the demo, the tests and later the load generator.

``SseConnection`` is one response, ``SseClient`` reconnects with the last id for ever. Raw asyncio
streams, so that a thousand of them fit in one process. Guarantees: the id sent at a reconnect is
the last one that a complete block carried; nothing is filtered, so deleting repeats is the
caller's business; waits and buffers are bounded by the constants below.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from random import SystemRandom
from types import TracebackType
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

from shopstream_stack.sse_parser import SseEvent, SseParser

CONNECT_SECONDS_MAX: Final = 10.0
HEADER_BYTES_MAX: Final = 65_536
READ_BYTES: Final = 65_536
#: Three heartbeats of 15 s: a connection that is silent for longer is dead, though TCP may not
#: notice for minutes.
IDLE_SECONDS_MAX: Final = 45.0
RETRY_SECONDS_DEFAULT: Final = 1.0
RETRY_SECONDS_MAX: Final = 30.0
#: Of a refusal this much of the body is kept for the message.
REFUSAL_BYTES_MAX: Final = 4_096
_OK: Final = 200
_SERVER_ERROR: Final = 500
_TOO_MANY_REQUESTS: Final = 429


class SseRefused(Exception):
    """The server answered with something else than an event stream."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}: {body[:200]!r}")
        self.status = status
        self.body = body

    @property
    def is_temporary(self) -> bool:
        """Whether trying again later makes sense."""
        return self.status >= _SERVER_ERROR or self.status == _TOO_MANY_REQUESTS


class BrokenResponse(ConnectionError):
    """The bytes from the server are not HTTP/1.1 as we read it."""


class SseConnection:
    """One response of the server, read event by event.

    ``async with await SseConnection.open(url) as connection: async for event in connection: …``;
    the loop ends when the server closes the stream.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        status: int,
        headers: Mapping[str, str],
        parser: SseParser,
        idle_seconds_max: float,
    ) -> None:
        self.status = status
        self.headers = headers
        self.parser = parser
        self._reader = reader
        self._writer = writer
        self._idle_seconds_max = idle_seconds_max
        self._chunks = _ChunkedBody() if "chunked" in headers.get("transfer-encoding", "") else None

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        last_event_id: str = "",
        headers: Mapping[str, str] | None = None,
        idle_seconds_max: float = IDLE_SECONDS_MAX,
    ) -> Self:
        """Connect and read the head.

        Raises OSError, TimeoutError, BrokenResponse, or SseRefused for anything but a 200 stream.
        """
        target = urlsplit(url)
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            reader, writer = await _connect(target)
            try:
                writer.write(_request(target, last_event_id, headers or {}))
                status, answer = await _read_head(reader)
                connection = cls(
                    reader,
                    writer,
                    status=status,
                    headers=answer,
                    parser=SseParser(last_event_id),
                    idle_seconds_max=idle_seconds_max,
                )
                await connection.check()
            except BaseException:
                writer.transport.abort()
                raise
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cut()

    @property
    def last_event_id(self) -> str:
        """Where a next connection resumes."""
        return self.parser.last_event_id

    def cut(self) -> None:
        """Drop the connection at once, as a broken network would; further calls do nothing."""
        self._writer.transport.abort()

    async def __aiter__(self) -> AsyncIterator[SseEvent]:
        while chunk := await self.read():
            for event in self.parser.feed(chunk):
                yield event

    async def read(self) -> bytes:
        """The next bytes of the body as they came, b"" at its end.

        Raises TimeoutError when the server is silent for ``idle_seconds_max``, OSError when the
        connection breaks.
        """
        while True:
            if self._chunks is not None and self._chunks.ended:
                # The server may keep the connection; nothing more comes on it.
                return b""
            async with asyncio.timeout(self._idle_seconds_max):
                raw = await self._reader.read(READ_BYTES)
            if not raw or self._chunks is None:
                return raw
            body = self._chunks.feed(raw)
            if body or self._chunks.ended:
                return body

    async def check(self) -> None:
        """Raise SseRefused unless the answer is an event stream."""
        kind = self.headers.get("content-type", "")
        if self.status != _OK or not kind.startswith("text/event-stream"):
            raise SseRefused(self.status, await self.rest(REFUSAL_BYTES_MAX))

    async def rest(self, bytes_max: int) -> bytes:
        """What is left of a finite body, up to a bound."""
        length = int(self.headers.get("content-length", bytes_max))
        body = b""
        while len(body) < min(length, bytes_max) and (more := await self.read()):
            body += more
        return body[:bytes_max]


class SseClient:
    """Reconnects with the last id until closed, as EventSource does, with jitter and a watchdog.

    ``connects`` counts the streams opened so far. ``cut()`` breaks the present connection, so that
    the client resumes by itself; ``aclose()`` or leaving ``events()`` ends it.
    """

    def __init__(
        self,
        url: str,
        *,
        last_event_id: str = "",
        headers: Mapping[str, str] | None = None,
        idle_seconds_max: float = IDLE_SECONDS_MAX,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self.url = url
        self.last_event_id = last_event_id
        self.connects = 0
        self.connected = asyncio.Event()
        self._headers = dict(headers or {})
        self._idle_seconds_max = idle_seconds_max
        self._jitter = jitter or SystemRandom().random
        self._connection: SseConnection | None = None
        self._retry_seconds = RETRY_SECONDS_DEFAULT
        self._failures = 0
        self._closed = asyncio.Event()

    def cut(self) -> None:
        """Break the present connection, if there is one."""
        if self._connection is not None:
            self._connection.cut()

    async def aclose(self) -> None:
        """End ``events()`` soon, also while it waits for a reconnect."""
        self._closed.set()
        self.cut()

    async def events(self) -> AsyncGenerator[SseEvent]:
        """Every event of every connection, named ones included.

        Raises SseRefused when the server says no for good (a 4xx other than 429).
        """
        while not self._closed.is_set():
            with contextlib.suppress(OSError, TimeoutError):
                async with contextlib.aclosing(self._one_connection()) as events:
                    async for event in events:
                        yield event
            await self._pause()

    async def _one_connection(self) -> AsyncGenerator[SseEvent]:
        self._failures += 1
        try:
            connection = await SseConnection.open(
                self.url,
                last_event_id=self.last_event_id,
                headers=self._headers,
                idle_seconds_max=self._idle_seconds_max,
            )
        except SseRefused as refusal:
            if not refusal.is_temporary:
                raise
            return
        async with connection:
            self._connection = connection
            self._failures = 0
            self.connects += 1
            self.connected.set()
            parser = connection.parser
            try:
                while not self._closed.is_set() and (chunk := await connection.read()):
                    for event in parser.feed(chunk):
                        # Before the event is handed out: a caller that stops here has seen it.
                        self.last_event_id = event.id
                        yield event
                    self.last_event_id = parser.last_event_id
            finally:
                self._connection = None
                self.connected.clear()
                if parser.retry_ms is not None:
                    self._retry_seconds = parser.retry_ms / 1_000

    async def _pause(self) -> None:
        """Wait before the next try: between half and all of an exponentially growing time."""
        base = min(self._retry_seconds * 2 ** min(self._failures, 10), RETRY_SECONDS_MAX)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(base * (0.5 + 0.5 * self._jitter())):
                await self._closed.wait()


class _ChunkedBody:
    """Takes HTTP/1.1 chunk framing away, however the chunks are cut by the network."""

    def __init__(self) -> None:
        self.ended = False
        self._buffer = b""
        self._left = 0

    def feed(self, raw: bytes) -> bytes:
        """The body bytes in ``raw``. Raises BrokenResponse."""
        self._buffer += raw
        body = []
        while self._buffer and not self.ended:
            if self._left:
                part, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
                self._left -= len(part)
                body.append(part)
            elif not self._next_chunk():
                break
        return b"".join(body)

    def _next_chunk(self) -> bool:
        """Read a chunk's size line, and the line end that closes the chunk before it."""
        start = 2 if self._buffer.startswith(b"\r\n") else 0
        end = self._buffer.find(b"\r\n", start)
        if end < 0:
            if len(self._buffer) > HEADER_BYTES_MAX:
                raise BrokenResponse("a chunk without a size")
            return False
        try:
            self._left = int(self._buffer[start:end].partition(b";")[0], 16)
        except ValueError:
            raise BrokenResponse("a chunk size that is no number") from None
        self._buffer = self._buffer[end + 2 :]
        self.ended = self._left == 0
        return True


async def _connect(target: SplitResult) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    secure = target.scheme == "https"
    return await asyncio.open_connection(
        target.hostname,
        target.port or (443 if secure else 80),
        ssl=ssl.create_default_context() if secure else None,
        limit=HEADER_BYTES_MAX,
    )


def _request(target: SplitResult, last_event_id: str, headers: Mapping[str, str]) -> bytes:
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {target.netloc}",
        "Accept: text/event-stream",
        "Cache-Control: no-store",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if last_event_id:
        lines.append(f"Last-Event-ID: {last_event_id}")
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header holds a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise BrokenResponse("no complete response head") from error
    status_line, *lines = head.decode("latin-1").split("\r\n")
    parts = status_line.split(" ", 2)
    if len(parts) < 2 or not (parts[0].startswith("HTTP/1.") and parts[1].isdigit()):  # noqa: PLR2004 - version and status
        raise BrokenResponse("no HTTP/1.1 status line")
    fields = (line.partition(":") for line in lines if line)
    return int(parts[1]), {name.strip().lower(): value.strip() for name, _, value in fields}
