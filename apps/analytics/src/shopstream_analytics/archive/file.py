"""The open file of a partition: lines, compressed as they come.

Only compressed bytes are kept. Should another writer have stored part of what is in here, the lines
are unpacked again; that happens once a take-over at most, memory is needed always.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import zstandard

from shopstream_analytics.archive.chain import Link, hour_of
from shopstream_analytics.archive.line import line as line_of
from shopstream_analytics.consumer.batch import Record, Source
from shopstream_shared.archive.keys import Place
from shopstream_shared.archive.lines import read_line

#: On our lines level 1 is half the time of 3, and smaller: they repeat each other closely.
LEVEL: Final = 1
#: How far back a line is compared, 2^n bytes; each open file holds as much in memory.
WINDOW_LOG: Final = 19

_HOUR_MS: Final = 3_600_000


@dataclass(slots=True)
class OpenFile:
    """Lines from the position ``start`` on; ``next`` is the position after what it covers."""

    start: int
    next: int
    opened_at: float
    count: int = 0
    first: int = -1
    last: int = -1
    first_timestamp: int = 0
    #: Before compression, and what is kept of it.
    raw_bytes: int = 0
    held_bytes: int = 0
    #: A sealed file takes no more lines.
    sealed: bool = False
    _chunks: list[bytes] = field(default_factory=list)
    _digest: Any = field(default_factory=hashlib.sha256)
    _compressor: Any = None

    def cuts_before(self, record: Record) -> bool:
        """A record of a later hour than the first line's starts a new file (protocol rule 24)."""
        return self.count > 0 and hour_of(record.timestamp) > hour_of(self.first_timestamp)

    def take(self, records: Sequence[Record], start: int, *, bytes_max: int, most: int) -> int:
        """Append records from an index on, as far as they fit; returns the index after them.

        Ends before a later hour (see `cuts_before`), after ``most`` records and with the line that
        reaches ``bytes_max``.
        """
        if not self.count:
            self.first_timestamp = records[start].timestamp
        hour_ends = (hour_of(self.first_timestamp) + 1) * _HOUR_MS
        lines: list[bytes] = []
        size = 0
        end = start
        limit = min(len(records), start + most)
        while end < limit and size < bytes_max:
            record = records[end]
            if record.timestamp >= hour_ends:
                break
            line = line_of(record)
            lines.append(line)
            size += len(line)
            end += 1
        if lines:
            first, last = records[start].offset, records[end - 1].offset
            self._append(b"".join(lines), len(lines), first, last)
        return end

    def seal(self, topic_id: str) -> tuple[bytes, Link]:
        """The stored bytes and their link; repeating it gives the same."""
        if not self.sealed:
            self._keep(self._compressor.flush())
            self._compressor = None
            self.sealed = True
        link = Link(
            start=self.start,
            next=self.next,
            first=self.first,
            last=self.last,
            count=self.count,
            sha256=self._digest.hexdigest(),
            topic_id=topic_id,
        )
        return b"".join(self._chunks), link

    def after(self, source: Source, position: int, now: float) -> "OpenFile":
        """What of a sealed file lies at or behind a position, as a file that starts there."""
        rest = OpenFile(start=position, next=position, opened_at=now)
        for line in unpack(b"".join(self._chunks)).splitlines(keepends=True):
            record = read_line(line, Place(*source))
            if record.offset >= position:
                if not rest.count:
                    rest.first_timestamp = record.timestamp
                rest._append(line, 1, record.offset, record.offset)
        rest.next = max(self.next, position)
        return rest

    def _append(self, lines: bytes, count: int, first: int, last: int) -> None:
        if not self.count:
            self.first = first
            self._compressor = _compressor()
        self.count += count
        self.last = last
        self.next = last + 1
        self.raw_bytes += len(lines)
        self._keep(self._compressor.compress(lines))

    def _keep(self, chunk: bytes) -> None:
        if chunk:
            self._chunks.append(chunk)
            self._digest.update(chunk)
            self.held_bytes += len(chunk)


def unpack(body: bytes) -> bytes:
    """The lines of a stored object."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(body)


def _compressor() -> "zstandard.ZstdCompressionObj":
    settings = zstandard.ZstdCompressionParameters.from_level(LEVEL, window_log=WINDOW_LOG)
    return zstandard.ZstdCompressor(compression_params=settings).compressobj()
