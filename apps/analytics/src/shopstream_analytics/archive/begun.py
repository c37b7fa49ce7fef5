"""Records for the archive: their lines are begun as they are read off the fetch.

All that a line needs of the headers is written down at once, so that nine headers are one bytes
object from then on: kept as they are, they were most of what the garbage collector looked at, a
fifth of the worker's processor time.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from faust.types import TP

from shopstream_analytics.consumer.batch import Record
from shopstream_analytics.consumer.records import Header, packed

#: Sets of header names that a partition's lines have seen; foreign producers may name them anew
#: each time.
TEMPLATES_MAX: Final = 64
#: What stands in a JSON text as it is.
_PLAIN_TEXT: Final = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))

_encode: Final = msgspec.json.Encoder().encode


class BegunRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of plain key and headers; ``begun`` is its line as far as ``"event":``."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    begun: bytes

    @property
    def headers(self) -> Sequence[Header]:
        """In the order of the log, repeated names included."""
        pairs = msgspec.json.decode(self.begun + b"null}")["headers"]
        return [(name, text.encode()) for name, text in pairs]


class _Template:
    """The beginning of a partition's lines with these header names, to be filled in."""

    def __init__(self, tp: TP, names: tuple[str, ...]) -> None:
        self.names = names
        start = b'{"topic":%b,"partition":%d' % (_encode(tp.topic), tp.partition)
        headers = b",".join(b'[%b,"' % _encode(name) + b'\0"]' for name in names)
        form = start + b',"offset":\1,"timestamp":\1,"key":"\0","headers":[%b],"event":' % headers
        # JSON holds no control characters, so these mark the places; what else has a % keeps it.
        self.filled_in: bytes = (
            form.replace(b"%", b"%%").replace(b"\0", b"%b").replace(b"\1", b"%d")
        )
        #: What of it is no plain text. A line with more than that has it from the record.
        self.rest: bytes = form.translate(None, _PLAIN_TEXT + b"\0\1")


class Beginnings:
    """Begins the lines of a worker's records; `line.line` ends them."""

    def __init__(self) -> None:
        self._last: dict[TP, _Template] = {}
        self._templates: dict[TP, dict[tuple[str, ...], _Template]] = {}

    def record(self, tp: TP, read: Any) -> Record:
        """From what aiokafka has parsed; one whose key or headers are not plain comes packed."""
        key, value, headers = read.key, read.value, read.headers
        if key is None or value is None or not headers:
            return packed(tp, read)
        names, texts = zip(*headers, strict=True)
        template = self._last.get(tp)
        if template is None or template.names != names:
            template = self._learn(tp, names)
            if template is None:
                return packed(tp, read)
        offset, timestamp = read.offset, read.timestamp
        try:
            begun = template.filled_in % (offset, timestamp, key, *texts)
        except TypeError:
            # A header without a value.
            return packed(tp, read)
        if begun.translate(None, _PLAIN_TEXT) != template.rest:
            return packed(tp, read)
        return BegunRecord(tp.topic, tp.partition, offset, timestamp, key, value, begun)

    def _learn(self, tp: TP, names: tuple[str, ...]) -> _Template | None:
        known = self._templates.setdefault(tp, {})
        template = known.get(names)
        if template is None:
            if len(known) >= TEMPLATES_MAX:
                return None
            template = known[names] = _Template(tp, names)
        self._last[tp] = template
        return template
