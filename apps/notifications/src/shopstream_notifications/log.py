"""The shared log: the last minutes of the stream, encoded once, and where each record stood.

Positions are vectors of next offsets over all parts (topic, partition); indexes count records in
the order in which *this* process saw them. Protocol rule 25 lives here: replicas interleave
partitions differently, so a client's vector is in general none of our positions. ``attach`` finds
the latest index at or below it in every component, ``covered_at`` the first index whose position
is at or above it everywhere; between the two a client needs ids of its own.

Bounded in bytes and in age; ``base`` is the position of the oldest record still held. Positions
also move without a record: over transaction markers and over records that are no events.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from shopstream_notifications import sse
from shopstream_notifications.records import Offsets, Part, Record
from shopstream_shared.stream_id import StreamPosition

#: What a record costs beside its bytes: the object, its texts and its index entries.
RECORD_OVERHEAD_BYTES: Final = 400
#: Dropped entries are cut off in pieces of this many, so that dropping one costs next to nothing.
_TRIM: Final = 1_024


class _Steps:
    """How one part's position moved: ``nexts`` grows strictly.

    ``at[k]`` is the index of the record that moved it, or ``~index`` when no record did and the
    log stood at ``index`` by then.
    """

    __slots__ = ("at", "base", "nexts")

    def __init__(self, base: int) -> None:
        self.base = base
        self.nexts = array("q")
        self.at = array("q")

    def move(self, next_offset: int, at: int) -> None:
        if at < 0 and self.at and self.at[-1] < 0:
            # Markers in a row are one step; the later index is right for all of them.
            self.nexts[-1], self.at[-1] = next_offset, at
            return
        self.nexts.append(next_offset)
        self.at.append(at)

    def first_record_from(self, offset: int) -> int | None:
        """Index of the first record at or past this offset."""
        for k in range(bisect_right(self.nexts, offset), len(self.nexts)):
            if self.at[k] >= 0:
                return self.at[k]
        return None

    def covered_at(self, offset: int) -> int:
        """The first index at which the position is at or past this offset (which it is now)."""
        if self.base >= offset:
            return 0
        at = self.at[bisect_left(self.nexts, offset)]
        return at + 1 if at >= 0 else ~at

    def forget_before(self, first: int) -> None:
        """Records below index ``first`` are gone."""
        gone = 0
        for next_offset, at in zip(self.nexts, self.at, strict=True):
            if (at if at >= 0 else ~at - 1) >= first:
                break
            self.base = next_offset
            gone += 1
        del self.nexts[:gone], self.at[:gone]


class EventLog:
    """Appended to and read in the event loop only."""

    def __init__(
        self,
        epoch: bytes,
        position: Offsets,
        *,
        bytes_max: int,
        seconds_max: float,
    ) -> None:
        self.epoch = epoch
        self.position: dict[Part, int] = dict(position)
        #: Grows with every change of the position.
        self.version = 0
        self.bytes = 0
        self._bytes_max = bytes_max
        self._seconds_max = seconds_max
        self._records: list[Record] = []
        self._head = 0
        self._first = 0
        #: (time of arrival, index) of each batch, oldest first.
        self._arrivals: deque[tuple[float, int]] = deque()
        self._steps = {part: _Steps(offset) for part, offset in position.items()}
        self._forgotten = 0

    @property
    def first(self) -> int:
        """Index of the oldest record held."""
        return self._first

    @property
    def end(self) -> int:
        """Index that the next record will get."""
        return self._first + len(self._records) - self._head

    @property
    def partitions(self) -> Mapping[str, int]:
        """How many partitions each topic has, as far as we know."""
        counts: dict[str, int] = {}
        for topic, partition in self.position:
            counts[topic] = max(counts.get(topic, 0), partition + 1)
        return counts

    def base(self) -> dict[Part, int]:
        """The position before the oldest record held."""
        self._forget()
        return {part: steps.base for part, steps in self._steps.items()}

    def add_parts(self, parts: Iterable[Part]) -> None:
        """Partitions that were added while we run: they are read from 0 (protocol rule 14)."""
        for part in parts:
            self.position.setdefault(part, 0)
            self._steps.setdefault(part, _Steps(0))
        self.version += 1

    def append(self, records: Iterable[Record], position: Offsets, now: float) -> None:
        """Take a batch: records in their order, then where the reader stands (``now``: seconds)."""
        self._arrivals.append((now, self.end))
        partitions = self.partitions
        for record in records:
            self.position[record.part] = record.offset + 1
            self._steps[record.part].move(record.offset + 1, self.end)
            record.id_line = sse.id_line(self.encode(self.position, partitions))
            self._records.append(record)
            self.bytes += record.size + RECORD_OVERHEAD_BYTES
        for part, offset in position.items():
            if offset > self.position[part]:
                self.position[part] = offset
                self._steps[part].move(offset, ~self.end)
        self.version += 1

    def encode(self, position: Offsets, partitions: Mapping[str, int] | None = None) -> str:
        """A position as a stream id."""
        counts = self.partitions if partitions is None else partitions
        return StreamPosition.of(self.epoch, position, counts).encode()

    def current_id(self) -> str:
        """The id of the log's end."""
        return self.encode(self.position)

    def offsets_of(self, position: StreamPosition) -> dict[Part, int]:
        """A client's position over the parts we know; what it does not name starts at 0."""
        return {part: position.next_offset(*part) for part in self.position}

    def read(self, start: int, stop: int) -> list[Record]:
        """Records from index ``start`` up to ``stop``; ``start`` must not be below ``first``."""
        shift = self._head - self._first
        return self._records[start + shift : stop + shift]

    def attach(self, wanted: Offsets) -> int | None:
        """The latest index whose position is ≤ ``wanted`` in every component.

        None when the log begins later: then the broker must be asked.
        """
        self._forget()
        index = self.end
        for part, steps in self._steps.items():
            offset = wanted.get(part, 0)
            if offset < steps.base:
                return None
            found = steps.first_record_from(offset)
            if found is not None:
                index = min(index, found)
        return index

    def covered_at(self, wanted: Offsets) -> int | None:
        """The first index whose position is ≥ ``wanted`` everywhere; None if we are not there."""
        if any(self.position[part] < offset for part, offset in wanted.items()):
            return None
        self._forget()
        return max(
            (self._steps[part].covered_at(offset) for part, offset in wanted.items()), default=0
        )

    def evict(self, now: float) -> None:
        """Drop whole batches, oldest first, until both bounds hold."""
        while self._arrivals and self.end > self._first:
            young = now - self._arrivals[0][0] <= self._seconds_max
            if young and self.bytes <= self._bytes_max:
                break
            self._arrivals.popleft()
            self._drop_before(self._arrivals[0][1] if self._arrivals else self.end)

    def _drop_before(self, index: int) -> None:
        count = index - self._first
        for record in islice(self._records, self._head, self._head + count):
            self.bytes -= record.size + RECORD_OVERHEAD_BYTES
        self._head += count
        self._first = index
        if self._head >= _TRIM:
            del self._records[: self._head]
            self._head = 0
            self._forget()

    def _forget(self) -> None:
        """Bring the steps in line with ``first``; put off until somebody looks."""
        if self._forgotten != self._first:
            self._forgotten = self._first
            for steps in self._steps.values():
                steps.forget_before(self._first)
