"""One answer of the server, kept as it came: its head, its blocks of lines, and when.

Unlike a client's parser this one hides nothing: comments, unknown fields, ids that a browser would
ignore, and what is left of an unfinished block.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

import httpx

#: More of one stream is not read: a check needs its beginning.
TAPE_BYTES_MAX: Final = 4 * 1_024 * 1_024
HEAD_SECONDS_MAX: Final = 10.0
_LINE: Final = re.compile(rb"([^\r\n]*)(\r\n|\n|\r)")
_BOM: Final = b"\xef\xbb\xbf"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Block:
    """Lines up to a blank one: fields in order, and how many comments stood among them."""

    fields: tuple[tuple[str, str], ...]
    comments: int

    def get(self, name: str) -> str | None:
        """The last value of a field, None without it."""
        return next((value for found, value in reversed(self.fields) if found == name), None)

    @property
    def data(self) -> str | None:
        """The lines of data joined, None without any."""
        lines = [value for name, value in self.fields if name == "data"]
        return "\n".join(lines) if lines else None

    @property
    def is_message(self) -> bool:
        """Whether ``onmessage`` of a browser would see it."""
        return self.data is not None and not self.get("event")

    @property
    def is_id_only(self) -> bool:
        return self.data is None and self.get("id") is not None


@dataclass(slots=True)
class Tape:
    """An answer that is being read in the background."""

    status: int
    headers: httpx.Headers
    began: float
    #: Seconds from the request to the first byte of the body, None before it.
    first_seconds: float | None = None
    last_at: float = 0.0
    size: int = 0
    blocks: list[Block] = field(default_factory=list)
    line_ends: set[bytes] = field(default_factory=set)
    #: Why nothing more comes; "" while it may.
    ended: str = ""
    not_utf8: bool = False
    _rest: bytes = b""
    _fields: list[tuple[str, str]] = field(default_factory=list)
    _comments: int = 0
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_stream(self) -> bool:
        kind = self.headers.get("content-type", "")
        return self.status == httpx.codes.OK and kind.startswith("text/event-stream")

    @property
    def dangling_comments(self) -> int:
        """Comments that no blank line has ended yet."""
        return 0 if self._fields else self._comments

    @property
    def last_id(self) -> str:
        return next((one for block in reversed(self.blocks) if (one := block.get("id"))), "")

    def named(self, name: str) -> list[Block]:
        return [block for block in self.blocks if block.get("event") == name]

    @property
    def messages(self) -> list[Block]:
        return [block for block in self.blocks if block.is_message]

    async def until(self, find: Callable[[], T | None], seconds: float) -> T | None:
        """What ``find`` returns once it is neither None nor false, else None: the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (found := find()):
                    if self.ended:
                        return None
                    self._moved.clear()
                    await self._moved.wait()
                return found
        return None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        now = time.monotonic()
        if self.first_seconds is None:
            self.first_seconds = now - self.began
            chunk = chunk.removeprefix(_BOM)
        self.last_at = now
        self.size += len(chunk)
        text = self._rest + chunk
        # A carriage return at the end may be half of a pair.
        end = len(text) - 1 if text.endswith(b"\r") else len(text)
        at = 0
        for found in _LINE.finditer(text, 0, end):
            self.line_ends.add(found[2])
            self._line(found[1])
            at = found.end()
        self._rest = text[at:]
        self._moved.set()

    def end(self, why: str) -> None:
        """Nothing more will come."""
        self.ended = why
        self._moved.set()

    def _line(self, line: bytes) -> None:
        if not line:
            if self._fields or self._comments:
                self.blocks.append(Block(tuple(self._fields), self._comments))
            self._fields, self._comments = [], 0
            return
        try:
            text = line.decode()
        except UnicodeDecodeError:
            self.not_utf8 = True
            text = line.decode(errors="replace")
        name, _, value = text.partition(":")
        if name:
            self._fields.append((name, value.removeprefix(" ")))
        else:
            self._comments += 1


@asynccontextmanager
async def taping(
    client: httpx.AsyncClient,
    url: str,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Tape]:
    """An answer, read on for as long as the block lasts. Raises httpx.HTTPError, TimeoutError."""
    began = time.monotonic()
    asked = {"accept": "text/event-stream", "cache-control": "no-store", **(headers or {})}
    request = client.build_request("GET", url, headers=asked)
    async with asyncio.timeout(HEAD_SECONDS_MAX):
        response = await client.send(request, stream=True)
    tape = Tape(response.status_code, response.headers, began)
    reader = asyncio.create_task(_read(response, tape))
    try:
        yield tape
    finally:
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader
        await response.aclose()


async def _read(response: httpx.Response, tape: Tape) -> None:
    try:
        async for chunk in response.aiter_raw():
            tape.feed(chunk)
            if tape.size > TAPE_BYTES_MAX:
                tape.end("enough was read")
                return
        tape.end("the server ended the answer")
    except httpx.HTTPError as error:
        tape.end(f"the connection broke: {error!r}")
