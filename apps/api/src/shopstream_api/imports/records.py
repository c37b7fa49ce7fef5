"""An upload's bytes cut into records, as they come: lines of NDJSON, records of CSV (RFC 4180).

Pure and bounded: at most one unfinished record is held. Blank lines are no records. A record above
RECORD_BYTES_MAX is None: it counts as a row, its bytes are not kept, and it ends with its line even
inside a quoted field, so that a quote nobody closes cannot swallow the rest of the file.
"""

from typing import Final

#: As for the body of a single product.
RECORD_BYTES_MAX: Final = 1_048_576
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_QUOTE: Final = ord('"')

Record = bytes | None


class Records:
    """``quoted``: line breaks inside quotation marks belong to their field, as in CSV."""

    def __init__(self, *, quoted: bool) -> None:
        self._by_quotes = quoted
        self._held = bytearray()
        #: Where in it the line begins that is being read.
        self._line = 0
        self._open = False
        self._too_long = False
        self._first_line = True

    def feed(self, data: bytes) -> list[Record]:
        """The records that end in these bytes."""
        found: list[Record] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._hold(data[start:end])
            if self._line_ends():
                self._take(found)
            start = end + 1
        self._hold(data[start:])
        return found

    def end(self) -> list[Record]:
        """The last record, if no line break ended it."""
        found: list[Record] = []
        self._line_ends()
        self._take(found)
        return found

    def _hold(self, part: bytes) -> None:
        if self._too_long:
            return
        self._held += part
        if len(self._held) > RECORD_BYTES_MAX:
            self._held.clear()
            self._too_long = True

    def _line_ends(self) -> bool:
        """Whether the record ends with this line; if not, the line break is part of it."""
        if self._first_line:
            self._first_line = False
            if self._held.startswith(_BYTE_ORDER_MARK):
                del self._held[: len(_BYTE_ORDER_MARK)]
        if not self._by_quotes or self._too_long:
            return True
        if self._open or _QUOTE in self._held:
            self._open = _open_after(bytes(self._held[self._line :]), self._open)
        if self._open:
            self._held += b"\n"
            self._line = len(self._held)
        return not self._open

    def _take(self, found: list[Record]) -> None:
        if self._too_long:
            found.append(None)
        else:
            record = bytes(self._held)
            if record.strip():
                found.append(record)
        self._held.clear()
        self._line = 0
        self._open = self._too_long = False


def _open_after(line: bytes, opened: bool) -> bool:  # noqa: FBT001 - the state before the line
    """Whether a quoted field is open at the end of a line; a quote opens only a field's start."""
    at = 0
    while True:
        if opened:
            at = line.find(b'"', at)
            if at < 0:
                return True
            if line[at + 1 : at + 2] == b'"':
                at += 2
                continue
            opened = False
        elif line[at : at + 1] == b'"':
            opened = True
            at += 1
            continue
        at = line.find(b",", at) + 1
        if at == 0:
            return False
