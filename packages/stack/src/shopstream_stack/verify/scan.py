"""Log and archive read side by side, a partition at a time: one slim row a record.

Where both have a record they must say the same, byte for byte. Where the log begins later, because
retention has removed what was before, the archive alone gives the rows.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from shopstream_stack.verify import events
from shopstream_stack.verify.archive import Archive, Chain
from shopstream_stack.verify.events import Event
from shopstream_stack.verify.log import Log, Place, Record
from shopstream_stack.verify.report import Invariant, Violation
from shopstream_stack.verify.spool import Spool, Table
from shopstream_stack.verify.timing import PartitionTime

LOG: Final = {
    "topic": "VARCHAR",
    "part": "BIGINT",
    "off": "BIGINT",
    "subject": "VARCHAR",
    "sequence": "BIGINT",
    "event_id": "VARCHAR",
    "type": "VARCHAR",
    "seller": "VARCHAR",
    "time": "BIGINT",
    "amount": "BIGINT",
    "currency": "VARCHAR",
    "units": "BIGINT",
    # Nothing of the order is left to pay back.
    "refunded": "BOOLEAN",
    # The first half of the value's sha256: 128 bits that a join compares at once.
    "digest": "UUID",
    "archived": "BOOLEAN",
    # Its hour had been over for a while, by partition time.
    "tardy": "BOOLEAN",
}
#: Events ahead of their time: where that showed, and the time that they claim.
AHEAD: Final = {"topic": "VARCHAR", "part": "BIGINT", "off": "BIGINT", "time": "BIGINT"}
#: The products of order events.
LINES: Final = {
    "topic": "VARCHAR",
    "part": "BIGINT",
    "off": "BIGINT",
    "type": "VARCHAR",
    "time": "BIGINT",
    "seller": "VARCHAR",
    "currency": "VARCHAR",
    "product": "VARCHAR",
    "units": "BIGINT",
    "revenue": "BIGINT",
    "archived": "BOOLEAN",
}
#: Records that are no events.
UNREADABLE: Final = {"topic": "VARCHAR", "part": "BIGINT", "off": "BIGINT"}
#: How often the progress bar moves.
ADVANCE_RECORDS: Final = 1_000


@dataclass(slots=True)
class Range:
    """What the log holds of a partition when it is read; retention may take more meanwhile."""

    start: int
    end: int

    def begin(self, start: int) -> None:
        """Take note that the log begins later now."""
        self.start = start


@dataclass(slots=True)
class Tables:
    """Where the rows go."""

    log: Table
    lines: Table
    ahead: Table
    unreadable: Table

    def checkpoint(self) -> None:
        """Load what is waiting, where it is much."""
        for table in (self.log, self.lines, self.ahead, self.unreadable):
            table.checkpoint()


class Read(msgspec.Struct, frozen=True, gc=False):
    """A record and what it says; no event where it says nothing that can be read."""

    record: Record
    event: Event | None


class Rising:
    """Rising numbers, of which rising ones are asked; there may be more than memory holds."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._head = next(numbers, None)

    def __contains__(self, number: int) -> bool:
        while self._head is not None and self._head < number:
            self._head = next(self._numbers, None)
        return self._head == number


@dataclass(slots=True)
class Scan:
    """One pass over all partitions. ``archive`` is None where there is no bucket."""

    spool: Spool
    log: Log
    archive: Archive | None
    topic_ids: Mapping[Place, str]
    row: Invariant
    advance: Callable[[int], None]
    #: A place's offsets with a dead letter, rising: there nobody could tell their time (ADR 39).
    aside: Callable[[Place], Iterator[int]]
    records: int = 0
    _letters: Rising = field(default_factory=lambda: Rising(iter(())))

    def run(self, ranges: Mapping[Place, Range]) -> dict[Place, Chain]:
        """Read everything in the ranges; the chains as far as they were walked."""
        chains: dict[Place, Chain] = {}
        with (
            self.spool.at_once(),
            self.spool.table("log", LOG) as log,
            self.spool.table("lines", LINES) as lines,
            self.spool.table("ahead", AHEAD) as ahead,
            self.spool.table("unreadable", UNREADABLE) as unreadable,
        ):
            tables = Tables(log, lines, ahead, unreadable)
            for place, within in ranges.items():
                chain = None
                if self.archive is not None:
                    chain = Chain(self.archive, place, self.topic_ids[place], self.row)
                    chains[place] = chain
                self._place(place, within, chain, tables)
        self.advance(self.records % ADVANCE_RECORDS)
        return chains

    def _rising(self, place: Place, records: Iterator[Record]) -> Iterator[Record]:
        """The archived records, each offset once."""
        last = -1
        for record in records:
            if record.offset <= last:
                self._fault("duplicate", place, record.offset, "once", "again")
                continue
            last = record.offset
            yield record

    def _place(self, place: Place, within: Range, chain: Chain | None, tables: Tables) -> None:
        log = map(_read, self.log.read(place, within.start, within.end, within.begin))
        archived: Iterator[Record] = iter(())
        expect: Callable[[Record | None], None] = _nothing
        time = PartitionTime()
        self._letters = Rising(self.aside(place))
        if chain is not None:
            archived = self._rising(place, chain.records(self.spool, within.end))
            expect = chain.expect
        for logged, kept in side_by_side(log, archived, expect):
            said = logged
            if kept is None:
                # Beyond the chain's end it is not archived yet.
                if logged is not None and chain is not None and logged.record.offset < chain.next:
                    offset = logged.record.offset
                    self._fault("missing", place, offset, "archived", "not in the archive")
            elif logged is None:
                said = _read(kept)
                if within.start <= kept.offset < within.end:
                    self._fault("phantom", place, kept.offset, "on the log", "in the archive only")
            elif kept is not logged.record:
                if difference := differing(logged.record, kept):
                    # A fault of the archive is no fault of the log: what was published is there.
                    self._fault("altered", place, kept.offset, "the log's bytes", difference)
                else:
                    said = _read(kept)
            assert said is not None  # noqa: S101 - one of both is there
            self._keep(place, said, kept is not None, tables, time)

    def _keep(
        self,
        place: Place,
        read: Read,
        archived: bool,  # noqa: FBT001 - a column
        tables: Tables,
        time: PartitionTime,
    ) -> None:
        self.records += 1
        if self.records % ADVANCE_RECORDS == 0:
            self.advance(ADVANCE_RECORDS)
            tables.checkpoint()
        record, event = read.record, read.event
        if event is None:
            tables.unreadable.add((*place, record.offset))
            return
        digest = hashlib.sha256(record.value or b"").hexdigest()[:32]
        timeless = record.offset in self._letters
        tardy, ahead = (False, []) if timeless else time.see(event.time)
        tables.log.add((*place, record.offset, *event.row, digest, archived, tardy))
        if archived:
            for claimed in ahead:
                tables.ahead.add((*place, record.offset, claimed))
        for line in event.lines:
            tables.lines.add((*place, record.offset, *line, archived))

    def _fault(self, kind: str, place: Place, offset: int, expected: str, seen: str) -> None:
        self.row.found(
            Violation(
                kind=kind,
                aggregate=str(place),
                expected=expected,
                seen=seen,
                place=f"{place}@{offset}",
            )
        )


def _read(record: Record) -> Read:
    return Read(record, events.read(record))


def _nothing(_ahead: Record | None) -> None:
    """Where there is no archive, nothing is expected of it."""


def side_by_side(
    log: Iterator[Read], archive: Iterator[Record], expect: Callable[[Record | None], None]
) -> Iterator[tuple[Read | None, Record | None]]:
    """Both in one order of offsets; records of one offset together. Each rises strictly.

    ``expect`` is told of the log's next event before the archive is asked for its next record.
    """
    logged = _next_expected(log, expect)
    kept = next(archive, None)
    while logged is not None or kept is not None:
        if kept is None or (logged is not None and logged.record.offset < kept.offset):
            yield logged, None
            logged = _next_expected(log, expect)
        elif logged is None or kept.offset < logged.record.offset:
            yield None, kept
            kept = next(archive, None)
        else:
            yield logged, kept
            logged = _next_expected(log, expect)
            kept = next(archive, None)


def _next_expected(log: Iterator[Read], expect: Callable[[Record | None], None]) -> Read | None:
    logged = next(log, None)
    expect(logged.record if logged is not None and logged.event is not None else None)
    return logged


def differing(logged: Record, kept: Record) -> str:
    """Which members of a line are not the log's; empty when none."""
    names = [
        name
        for name in ("timestamp", "key", "headers", "value")
        if getattr(logged, name) != getattr(kept, name)
    ]
    return f"{', '.join(names)} differ" if names else ""
