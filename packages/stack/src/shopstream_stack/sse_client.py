"""One response of a server of events, whoever that is: what `StreamClient` and the tests stand on.

Raw asyncio streams, so that a thousand of them fit in one process. Waits and buffers are bounded
by the constants below; nothing is filtered, and nothing is tried again.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

from shopstream_stack.sse_parser import SseEvent, SseParser

CONNECT_SECONDS_MAX: Final = 10.0
HEADER_BYTES_MAX: Final = 65_536
READ_BYTES: Final = 65_536
#: The server's, docs/stream.md.
HEARTBEAT_SECONDS: Final = 15.0
#: A connection that is silent for longer is dead, though TCP may not notice for minutes.
IDLE_SECONDS_MAX: Final = 2.5 * HEARTBEAT_SECONDS
#: Of a refusal this much of the body is kept for the message.
REFUSAL_BYTES_MAX: Final = 4_096
_OK: Final = 200
_NO_CONTENT: Final = 204
_SERVER_ERROR: Final = 500
#: Request time-out, too early, too many requests: RFC 9110, RFC 8470, RFC 6585.
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_MEDIA_TYPE: Final = "text/event-stream"


class SseRefused(Exception):
    """The server answered with something else than an event stream."""

    def __init__(self, status: int, body: bytes, media_type: str = _MEDIA_TYPE) -> None:
        kind = "" if media_type == _MEDIA_TYPE else f" ({media_type or 'no content type'})"
        super().__init__(f"HTTP {status}{kind}: {body[:200]!r}")
        self.status = status
        self.body = body

    @property
    def is_temporary(self) -> bool:
        """Whether trying again later makes sense."""
        return self.status >= _SERVER_ERROR or self.status in _TRY_AGAIN


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

    @property
    def local_port(self) -> int:
        """Our end's, by which its process at the other end is found."""
        return int(self._writer.get_extra_info("sockname")[1])

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
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if self.status == _NO_CONTENT:
            raise SseRefused(self.status, b"")
        if self.status != _OK or media_type != _MEDIA_TYPE:
            raise SseRefused(self.status, await self.rest(REFUSAL_BYTES_MAX), media_type)

    async def rest(self, bytes_max: int) -> bytes:
        """What is left of a finite body, up to a bound."""
        length = int(self.headers.get("content-length", bytes_max))
        body = b""
        while len(body) < min(length, bytes_max) and (more := await self.read()):
            body += more
        return body[:bytes_max]


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
