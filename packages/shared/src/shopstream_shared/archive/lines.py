"""A line of the archive, read: as a record, or only as far as is asked.

``{"topic","partition","offset","timestamp","key","headers","event"}``; what is not text, or no
event of ours, stands in base64 (``raw``, ``keyRaw``, the third element of a header).
"""

import binascii
from base64 import b64decode
from typing import Any, Final

import msgspec

from shopstream_shared.archive.keys import Damaged, Place

#: A line is one event of at most 256 KiB, perhaps in base64, and its envelope; or a record that
#: the broker took and nobody can read, of at most 1 MiB.
LINE_BYTES_MAX: Final = 2_097_152

_EVENT: Final = b',"event":'
_NULL: Final = b"null"


class _Line(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str | None
    headers: list[list[str | None]]
    event: msgspec.Raw
    raw: str | None = None
    keyRaw: str | None = None  # noqa: N815 - as it stands in the line


_decode: Final = msgspec.json.Decoder(_Line).decode


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record of the log or one line of the archive: the same members, the same bytes."""

    offset: int
    timestamp: int
    key: bytes | None
    headers: list[tuple[str, bytes | None]]
    value: bytes | None
    #: In the archive: it was kept as raw bytes, because nobody could read it.
    raw: bool = False


def read_line(line: bytes, place: Place) -> Record:
    """All that a line says. Raises Damaged, also for a line of another partition."""
    try:
        read = _decode(line)
        event = bytes(read.event)
        raw = event == _NULL
        value = _unpacked(read.raw) if raw else event
        key = _bytes(read.key) if read.keyRaw is None else _unpacked(read.keyRaw)
        headers = [_header(pair) for pair in read.headers]
    except (msgspec.MsgspecError, ValueError, IndexError) as error:
        raise Damaged(f"a line that cannot be read: {error}") from error
    if (read.topic, read.partition) != place:
        raise Damaged(f"a line of {read.topic}/{read.partition}")
    return Record(read.offset, read.timestamp, key, headers, value, raw)


def event_in(line: bytes) -> bytes | None:
    """The event's bytes, without taking the line apart; None for a record that is no event.

    The first ``,"event":`` is the member: a text in JSON holds its quotes behind backslashes, and
    a list (the headers) has no colon. Raises Damaged.
    """
    before, found, rest = line.rstrip(b"\n").partition(_EVENT)
    if not found or not rest.endswith(b"}"):
        raise Damaged(f"a line without an event: {before[:80]!r}")
    event = rest[:-1]
    return None if event == _NULL or event.startswith(b'null,"raw":') else event


class Offsets:
    """Reads the offsets of one partition's lines, cheaply where they begin as ours do."""

    def __init__(self, place: Place) -> None:
        self._place = place
        topic = msgspec.json.encode(place.topic)
        self._prefix: Final = b'{"topic":%b,"partition":%d,"offset":' % (topic, place.partition)
        self._length: Final = len(self._prefix)

    def of(self, line: bytes) -> int:
        """Raises Damaged, also for a line of another partition."""
        if line.startswith(self._prefix):
            number = line[self._length : line.find(b",", self._length)]
            if number.isdigit():
                return int(number)
        return read_line(line, self._place).offset


def _unpacked(base64: str | None) -> bytes | None:
    try:
        return None if base64 is None else b64decode(base64, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _header(pair: list[Any]) -> tuple[str, bytes | None]:
    """A header: [name, text], or [name, null, base64] where the value is no UTF-8."""
    if len(pair) > 2 and pair[2] is not None:  # noqa: PLR2004 - see above
        return str(pair[0]), _unpacked(pair[2])
    return str(pair[0]), _bytes(pair[1])
