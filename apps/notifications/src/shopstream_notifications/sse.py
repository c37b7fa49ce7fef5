"""The event stream's bytes: pure functions, no state.

Guarantees: what goes in as data comes out of a WHATWG parser as the same text (line ends aside),
no value can add a field or end a block early, ids stand on domain events and on id-only blocks
only, never on a named event (protocol rule 26).
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from sse_starlette.event import ServerSentEvent

#: Browsers wait this long before they reconnect, unless a goodbye told them otherwise.
#: Each client another one, so that those that are cut together do not come back together.
RETRY_MS: Final = (1_000, 3_000)

_SEPARATOR: Final = "\n"
_DATA: Final = b"data: "
_NEXT_LINE: Final = _SEPARATOR.encode() + _DATA
#: What a stream id is made of (URL-safe base64): no character that the format gives a meaning.
_ID_TEXT: Final = re.compile(r"[A-Za-z0-9_-]+")
_NAME_TEXT: Final = re.compile(r"[a-z.]+")


def data_block(value: bytes) -> bytes:
    """An event without a name, so that ``onmessage`` sees it; its id line is put in front later."""
    return ServerSentEvent(value.decode(), sep=_SEPARATOR).encode()


def value_of(block: bytes) -> bytes:
    """The value that ``data_block`` was given; other line ends have become line feeds."""
    value = block[len(_DATA) : -2 * len(_SEPARATOR)]
    return value.replace(_NEXT_LINE, _SEPARATOR.encode()) if _NEXT_LINE in value else value


def id_line(stream_id: str) -> bytes:
    """The line that goes in front of a block. Raises ValueError for what is not a stream id."""
    if not _ID_TEXT.fullmatch(stream_id):
        raise ValueError("a stream id is URL-safe base64")
    return f"id: {stream_id}{_SEPARATOR}".encode()


def id_only(stream_id: str) -> bytes:
    """Moves the client's resume point and fires no event."""
    return id_line(stream_id) + _SEPARATOR.encode()


def control(name: str, data: Mapping[str, object], *, retry_ms: int | None = None) -> bytes:
    """A named event; it never carries an id. Raises ValueError for a name with odd characters."""
    if not _NAME_TEXT.fullmatch(name):
        raise ValueError("a control event's name is lower-case letters and dots")
    text = msgspec.json.encode(data).decode()
    return ServerSentEvent(text, event=name, retry=retry_ms, sep=_SEPARATOR).encode()


def preamble(retry_ms: int) -> bytes:
    """The first bytes of every answer: reconnect time, and a comment that opens proxies."""
    return ServerSentEvent(retry=retry_ms, comment="shopstream", sep=_SEPARATOR).encode()


def heartbeat(time: str) -> bytes:
    """A comment for proxies and a named event for watchdogs, which cannot see comments."""
    comment = ServerSentEvent(comment="heartbeat", sep=_SEPARATOR).encode()
    return comment + control("stream.heartbeat", {"time": time})
