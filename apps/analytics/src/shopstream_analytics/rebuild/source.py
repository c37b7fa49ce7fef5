"""One partition's archive, folded with the worker's own fold into rows that can be merged.

A row is (partition key, sort key, zone, first, last, counters). What an item must hold at any
``upto`` that a live item may have can be told from the rows:

- `SETTLED`: below the live checkpoint; every item must have it all, so it is added up;
- `OPEN`: at or above it, up to the furthest live item; each contribution is a row of its own;
- `BEYOND`: no live item has come so far; added up again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Final, NamedTuple

from shopstream_analytics.aggregates.fold import Gain, ItemKey, fold
from shopstream_analytics.aggregates.keys import keys_of
from shopstream_analytics.aggregates.timeliness import PartitionTime, mark
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.events import DecodedEvent, EventRejected, read_event
from shopstream_analytics.rebuild.spill import Row, Spill
from shopstream_shared.archive.keys import Place
from shopstream_shared.archive.lines import event_in, read_line
from shopstream_shared.archive.reader import Lines

SETTLED: Final = 0
OPEN: Final = 1
BEYOND: Final = 2
#: An offset beyond all others.
NEVER: Final = 2**63 - 1
#: So many events are folded together: some 20 MB of them.
ROUND_EVENTS_MAX: Final = 5_000
#: Items in memory before they are written as a run: some 60 MB.
CELLS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Borders:
    """Offsets and a time that matter in one partition.

    ``settled``: the live checkpoint, `NEVER` when nothing is compared. ``furthest``: the highest
    ``upto`` of its live items. ``letters``: from here on a record that nobody can read ends the
    rebuild, because its letter may not be written yet. ``until_ms``: so does a record of this
    Kafka timestamp or a later one. ``standing``: records that have a letter.
    """

    settled: int = NEVER
    furthest: int = -1
    letters: int = NEVER
    until_ms: int | None = None
    standing: frozenset[int] = frozenset()

    def zone(self, offset: int) -> int:
        if offset < self.settled:
            return SETTLED
        return OPEN if offset <= self.furthest else BEYOND


class Cell(NamedTuple):
    """What the events from ``first`` to ``last`` add to one item."""

    first: int
    last: int
    counters: Mapping[str, int]


@dataclass(slots=True)
class Counted:
    """What was met."""

    records: int = 0
    events: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class SourceFold:
    """Takes lines in offset order; ``items`` is what the items call the source."""

    place: Place
    items: Source
    borders: Borders
    spill: Spill
    counted: Counted = field(default_factory=Counted)
    #: Where the rebuilt items end, None while nothing has ended them, and partition time there.
    cut: int | None = None
    cut_time: PartitionTime = field(default_factory=PartitionTime)
    #: Records with a letter that are in the rebuilt items.
    letters: list[int] = field(default_factory=list)
    _time: PartitionTime = field(default_factory=PartitionTime)
    _zone: int = SETTLED
    _events: list[tuple[int, DecodedEvent]] = field(default_factory=list)
    _cells: dict[ItemKey, Gain] = field(default_factory=dict)

    @property
    def wants_more(self) -> bool:
        """False once neither the rebuilt items nor the comparison need what follows."""
        return self.cut is None or self.cut <= self.borders.furthest

    @property
    def time(self) -> PartitionTime:
        """Partition time where the rebuilt items end."""
        return self._time if self.cut is None else self.cut_time

    def take(self, lines: Lines) -> None:
        """Fold some lines."""
        for offset, line in zip(lines.offsets, lines.lines, strict=True):
            zone = self.borders.zone(offset)
            if zone != self._zone:
                self._flush()
                self._zone = zone
            event = self._event(offset, line)
            if self.cut is not None and zone != OPEN:
                return
            if event is not None:
                self._events.append((offset, event))
                if self.cut is None and offset in self.borders.standing:
                    self.letters.append(offset)
        if len(self._events) >= ROUND_EVENTS_MAX:
            self._fold()

    def finish(self) -> None:
        """All rows are in the spill after this."""
        self._flush()

    def _event(self, offset: int, line: bytes) -> DecodedEvent | None:
        """The event of a line; notes where the rebuilt items end."""
        self.counted.records += 1
        if self.cut is None and self._is_too_late(line):
            self._end(offset)
        try:
            value = event_in(line)
            event = read_event(read_line(line, self.place).value if value is None else value)
        except EventRejected:
            self.counted.unreadable += 1
            if self.cut is None and offset >= self.borders.letters:
                self._end(offset)
            return None
        self.counted.events += 1
        return event

    def _is_too_late(self, line: bytes) -> bool:
        until = self.borders.until_ms
        return until is not None and read_line(line, self.place).timestamp >= until

    def _end(self, offset: int) -> None:
        self._fold()
        self.cut, self.cut_time = offset, self._time

    def _fold(self) -> None:
        events, self._events = self._events, []
        if self._zone == OPEN:
            self.spill.add_run(chain.from_iterable(map(self._alone, events)))
            return
        marks, self._time = mark(self._timed(events), self._time)
        cells = self._cells
        for key, gain in fold(events, marks).items():
            found = cells.get(key)
            if found is None:
                cells[key] = gain
            else:
                found.take(gain)
        if len(cells) >= CELLS_MAX:
            self._write()

    def _alone(self, one: tuple[int, DecodedEvent]) -> Iterator[Row]:
        """The rows of one event: what an item has of it may end between it and the next."""
        marks, self._time = mark(self._timed([one]), self._time)
        for key, gain in fold([one], marks).items():
            yield self._row(key, gain)

    def _timed(
        self, events: Sequence[tuple[int, DecodedEvent]]
    ) -> Sequence[tuple[int, DecodedEvent]]:
        """Those that have a part in partition time."""
        standing = self.borders.standing
        return [one for one in events if one[0] not in standing] if standing else events

    def _flush(self) -> None:
        self._fold()
        self._write()

    def _write(self) -> None:
        if self._cells:
            self.spill.add_run(self._row(key, gain) for key, gain in self._cells.items())
            self._cells.clear()

    def _row(self, key: ItemKey, gain: Gain) -> Row:
        return (*keys_of(key, self.items), self._zone, gain.first, gain.last, gain.delta)


class ItemRows(NamedTuple):
    """All rows of one item."""

    pk: str
    sk: str
    rows: list[tuple[int, Cell]]

    def up_to(self, offset: int) -> Cell | None:
        """The item with all contributions up to an offset, inclusive; None without any."""
        kept = [cell for _, cell in self.rows if cell.last <= offset]
        if not kept:
            return None
        counters: dict[str, int] = {}
        for cell in kept:
            for name, amount in cell.counters.items():
                counters[name] = counters.get(name, 0) + amount
        return Cell(min(c.first for c in kept), max(c.last for c in kept), counters)

    @property
    def settled(self) -> int:
        """The last offset that every item must have; -1 when none."""
        return max((cell.last for zone, cell in self.rows if zone == SETTLED), default=-1)


def items_of(rows: Iterable[Row]) -> Iterator[ItemRows]:
    """Rows in the order of their keys, item by item."""
    for (pk, sk), group in groupby(rows, key=lambda row: (row[0], row[1])):
        yield ItemRows(pk, sk, [(zone, Cell(*rest)) for _, _, zone, *rest in group])
