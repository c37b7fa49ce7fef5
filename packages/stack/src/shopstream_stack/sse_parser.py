"""An event stream read as the WHATWG standard says, from chunks cut anywhere.

Guarantees: however the bytes are split, the same events come out; an event that was not ended by
a blank line is never given out; ``last_event_id`` moves with id-only blocks too, which fire no
event. An id holding NUL is ignored, a ``retry`` that is not all digits is ignored. Held, with the
page's parser, against ``tests/support/sse_cases.json``.
"""

import re
from dataclasses import dataclass
from typing import Final

#: One line, and the data of one event; our largest event is 256 KiB, so only a broken server goes
#: above this.
EVENT_BYTES_MAX: Final = 4 * 1_024 * 1_024
#: A ``retry`` of more digits is taken as this many nines: nobody waits so long, and Python refuses
#: to read a number of thousands of digits.
RETRY_DIGITS_MAX: Final = 15
_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_DEFAULT_TYPE: Final = "message"


class EventTooLong(ValueError):
    """A line of the stream, or the data of an event, is longer than the bound."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One dispatched event. ``id`` is the last event id at that moment, "" when none was seen."""

    type: str
    data: str
    id: str

    @property
    def is_message(self) -> bool:
        """True for events that ``EventSource.onmessage`` would see: no name of their own."""
        return self.type == _DEFAULT_TYPE


class SseParser:
    """Feed it chunks; it gives the events they complete.

    ``last_event_id``: where to resume. ``retry_ms``: the server's wish, None before it spoke.
    ``comments``: how many comment lines went by (heartbeats, mostly). ``bytes_max`` bounds a line
    and the data of an event.
    """

    def __init__(self, last_event_id: str = "", *, bytes_max: int = EVENT_BYTES_MAX) -> None:
        self.last_event_id = last_event_id
        self._bytes_max = bytes_max
        self.retry_ms: int | None = None
        self.comments = 0
        self._rest = b""
        self._skip_line_feed = False
        self._at_start = True
        self._type = ""
        self._data: list[str] = []
        self._data_bytes = 0
        self._id = last_event_id

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take the next bytes. Raises EventTooLong."""
        if not chunk:
            return []
        if self._skip_line_feed:
            self._skip_line_feed = False
            chunk = chunk.removeprefix(b"\n")
        text = self._rest + chunk
        lines = _LINE_END.split(text)
        self._rest = lines.pop()
        self._require(len(self._rest))
        # A CR at the very end may be the first half of CRLF: its LF must not end another line.
        self._skip_line_feed = text.endswith(b"\r")
        events = []
        for line in lines:
            event = self._line(self._without_bom(line))
            if event is not None:
                events.append(event)
        return events

    def _require(self, count: int) -> None:
        if count > self._bytes_max:
            msg = f"a line or an event of more than {self._bytes_max} bytes"
            raise EventTooLong(msg)

    def _without_bom(self, line: bytes) -> bytes:
        if not self._at_start:
            return line
        self._at_start = False
        return line.removeprefix(_BOM)

    def _line(self, line: bytes) -> SseEvent | None:
        if not line:
            return self._dispatch()
        if line.startswith(b":"):
            self.comments += 1
            return None
        self._require(len(line))
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data_bytes += len(value)
            self._require(self._data_bytes)
        self._field(name, value.removeprefix(b" ").decode("utf-8", "replace"))
        return None

    def _field(self, name: bytes, value: str) -> None:
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value
        elif name == b"id":
            if "\0" not in value:
                self._id = value
        elif name == b"retry" and value.isascii() and value.isdigit():
            digits = value.lstrip("0") or "0"
            self.retry_ms = int(
                digits if len(digits) <= RETRY_DIGITS_MAX else "9" * RETRY_DIGITS_MAX
            )

    def _dispatch(self) -> SseEvent | None:
        self.last_event_id = self._id
        data, self._data, self._data_bytes = self._data, [], 0
        event_type, self._type = self._type, ""
        if not data:
            return None
        return SseEvent(event_type or _DEFAULT_TYPE, "\n".join(data), self.last_event_id)
