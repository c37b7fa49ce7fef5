"""One archived record: a line of JSON around the event's own bytes.

``{"topic","partition","offset","timestamp","key","headers","event"}``: the event is spliced in, not
encoded again, so archive bytes = log bytes. A record that is no event of ours has ``"event":null``
and ``"raw"``, its value in base64 (null for a null value); so has an event whose bytes hold a line
break, which a line cannot. A key or header value that is not UTF-8 is given in base64 as well:
``"keyRaw"``, and a third element of the header's pair.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from shopstream_analytics.archive.begun import BegunRecord
from shopstream_analytics.archive.plain import is_plain
from shopstream_analytics.consumer.batch import Record
from shopstream_analytics.events import read_event
from shopstream_shared.events.codec import EventRejected

_encode: Final = msgspec.json.Encoder().encode
_OPEN, _CLOSE = b"{}"


class _Line(msgspec.Struct):
    event: msgspec.Raw = msgspec.Raw(b"null")
    raw: str | None = None


_decoder: Final = msgspec.json.Decoder(_Line)


def line_of(record: Record) -> bytes:
    """The record as a line, the line break at its end included."""
    value = record.value
    return b'{"topic":%b,"partition":%d,"offset":%d,"timestamp":%d,%b,"headers":%b,%b}\n' % (
        _encode(record.topic),
        record.partition,
        record.offset,
        record.timestamp,
        _key(record.key),
        _encode([_header(name, value) for name, value in record.headers]),
        b'"event":' + value if value is not None and _spliceable(value) else _raw(value),
    )


def line(record: Record) -> bytes:
    """The same bytes, in one step for a plain event whose line is begun.

    A property test holds the two against each other.
    """
    if type(record) is BegunRecord:
        value = record.value
        # As `_one_line`, which would be one more call for every record.
        breaks = b"\n" in value or b"\r" in value
        if not breaks and is_plain(value) and value[0] == _OPEN and value[-1] == _CLOSE:
            return b"%b%b}\n" % (record.begun, value)
    return line_of(record)


def value_of(line: bytes) -> bytes | None:
    """The record's value, byte for byte as it was on the log. Raises msgspec.MsgspecError."""
    parsed = _decoder.decode(line)
    event = bytes(parsed.event)
    if event != b"null":
        return event
    return None if parsed.raw is None else b64decode(parsed.raw)


def attributes_of(line: bytes) -> Mapping[str, Any]:
    """All members of a line, decoded."""
    attributes: dict[str, Any] = msgspec.json.decode(line)
    return attributes


def _spliceable(value: bytes) -> bool:
    if not _one_line(value):
        return False
    try:
        read_event(value)
    except EventRejected:
        return False
    return True


def _one_line(value: bytes) -> bool:
    # White space around the event would be lost on the reader, who finds the value by its token.
    return value[:1] == b"{" and value[-1:] == b"}" and b"\n" not in value and b"\r" not in value


def _raw(value: bytes | None) -> bytes:
    return b'"event":null,"raw":' + _encode(None if value is None else b64encode(value).decode())


def _key(key: bytes | None) -> bytes:
    try:
        return b'"key":' + _encode(None if key is None else key.decode())
    except UnicodeDecodeError:
        assert key is not None  # noqa: S101 - only a key can fail to decode
        return b'"key":null,"keyRaw":' + _encode(b64encode(key).decode())


def _header(name: str, value: bytes | None) -> list[str | None]:
    if value is None:
        return [name, None]
    try:
        return [name, value.decode()]
    except UnicodeDecodeError:
        return [name, None, b64encode(value).decode()]
