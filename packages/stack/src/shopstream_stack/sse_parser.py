"""An event stream read as the WHATWG standard says, from chunks cut anywhere.

Guarantees: however the bytes are split, the same events come out; an event that was not ended by
a blank line is never given out; ``last_event_id`` moves with id-only blocks too, which fire no
event. An id holding NUL is ignored, a ``retry`` that is not all digits is ignored.
"""

import re
from dataclasses import dataclass
from typing import Final

#: One line of the stream; our largest event is 256 KiB, so only a broken server goes above this.
LINE_BYTES_MAX: Final = 4 * 1_024 * 1_024
_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_DEFAULT_TYPE: Final = "message"


class LineTooLong(ValueError):
    """A line of the stream is longer than LINE_BYTES_MAX."""


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
    ``comments``: how many comment lines went by (heartbeats, mostly).
    """

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        self.comments = 0
        self._rest = b""
        self._skip_line_feed = False
        self._at_start = True
        self._type = ""
        self._data: list[str] = []
        self._id = last_event_id

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take the next bytes. Raises LineTooLong."""
        if not chunk:
            return []
        if self._skip_line_feed:
            self._skip_line_feed = False
            chunk = chunk.removeprefix(b"\n")
        text = self._rest + chunk
        lines = _LINE_END.split(text)
        self._rest = lines.pop()
        if len(self._rest) > LINE_BYTES_MAX:
            raise LineTooLong(f"a line of more than {LINE_BYTES_MAX} bytes")
        # A CR at the very end may be the first half of CRLF: its LF must not end another line.
        self._skip_line_feed = text.endswith(b"\r")
        events = []
        for line in lines:
            event = self._line(self._without_bom(line))
            if event is not None:
                events.append(event)
        return events

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
        name, _, value = line.partition(b":")
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
            self.retry_ms = int(value)

    def _dispatch(self) -> SseEvent | None:
        self.last_event_id = self._id
        data, self._data = self._data, []
        event_type, self._type = self._type, ""
        if not data:
            return None
        return SseEvent(event_type or _DEFAULT_TYPE, "\n".join(data), self.last_event_id)
