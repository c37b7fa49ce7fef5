"""Log and archive read side by side, a partition at a time: one slim row a record.

Where both have a record they must say the same, byte for byte. Where the log begins later, because
retention has removed what was before, the archive alone gives the rows.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from shopstream_stack.verify import events
from shopstream_stack.verify.archive import Archive, Chain
from shopstream_stack.verify.log import Log, Place, Record
from shopstream_stack.verify.report import Invariant, Violation
from shopstream_stack.verify.spool import Spool, Table

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
    # The first half of the value's sha256: 128 bits that a join compares at once.
    "digest": "UUID",
    "archived": "BOOLEAN",
}
#: The products of order events.
LINES: Final = {
    "topic": "VARCHAR",
    "part": "BIGINT",
    "off": "BIGINT",
    "type": "VARCHAR",
    "time": "BIGINT",
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


@dataclass(frozen=True, slots=True)
class Range:
    """What the log holds of a partition when it is read."""

    start: int
    end: int


@dataclass(slots=True)
class Tables:
    """Where the rows go."""

    log: Table
    lines: Table
    unreadable: Table


@dataclass(slots=True)
class Scan:
    """One pass over all partitions. ``archive`` is None where there is no bucket."""

    spool: Spool
    log: Log
    archive: Archive | None
    topic_ids: Mapping[str, str]
    row: Invariant
    advance: Callable[[int], None]
    records: int = 0

    def run(self, ranges: Mapping[Place, Range]) -> dict[Place, Chain]:
        """Read everything in the ranges; the chains as far as they were walked."""
        chains: dict[Place, Chain] = {}
        with (
            self.spool.table("log", LOG) as log,
            self.spool.table("lines", LINES) as lines,
            self.spool.table("unreadable", UNREADABLE) as unreadable,
        ):
            tables = Tables(log, lines, unreadable)
            for place, within in ranges.items():
                archived: Iterator[Record] = iter(())
                chain = None
                if self.archive is not None:
                    chain = Chain(self.archive, place, self.topic_ids[place.topic], self.row)
                    chains[place] = chain
                    archived = self._rising(place, chain.records(self.spool, within.end))
                self._place(place, within, archived, chain, tables)
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

    def _place(
        self,
        place: Place,
        within: Range,
        archived: Iterator[Record],
        chain: Chain | None,
        tables: Tables,
    ) -> None:
        log = self.log.read(place, within.start, within.end)
        for logged, kept in side_by_side(log, archived):
            said = kept or logged
            if logged is not None and kept is not None:
                if difference := differing(logged, kept):
                    self._fault("altered", place, logged.offset, "the log's bytes", difference)
                    # A fault of the archive is no fault of the log: what was published is there.
                    said = logged
            elif logged is not None:
                # Beyond the chain's end it is not archived yet.
                if chain is not None and logged.offset < chain.next:
                    self._fault("missing", place, logged.offset, "archived", "not in the archive")
            elif kept is not None and within.start <= kept.offset < within.end:
                self._fault("phantom", place, kept.offset, "on the log", "in the archive only")
            assert said is not None  # noqa: S101 - one of both is there
            self._keep(place, said, kept is not None, tables)

    def _keep(self, place: Place, record: Record, archived: bool, tables: Tables) -> None:  # noqa: FBT001 - a column
        self.records += 1
        if self.records % ADVANCE_RECORDS == 0:
            self.advance(ADVANCE_RECORDS)
        event = events.read(record)
        if event is None:
            tables.unreadable.add((*place, record.offset))
            return
        digest = hashlib.sha256(record.value or b"").hexdigest()[:32]
        tables.log.add((*place, record.offset, *event[:-1], digest, archived))
        tables.log.checkpoint()
        for line in event.lines:
            of = (event.type, event.time, event.currency)
            tables.lines.add((*place, record.offset, *of, *line, archived))
            tables.lines.checkpoint()

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


def side_by_side(
    log: Iterator[Record], archive: Iterator[Record]
) -> Iterator[tuple[Record | None, Record | None]]:
    """Both in one order of offsets; records of one offset together. Each rises strictly."""
    logged, kept = next(log, None), next(archive, None)
    while logged is not None or kept is not None:
        if kept is None or (logged is not None and logged.offset < kept.offset):
            yield logged, None
            logged = next(log, None)
        elif logged is None or kept.offset < logged.offset:
            yield None, kept
            kept = next(archive, None)
        else:
            yield logged, kept
            logged, kept = next(log, None), next(archive, None)


def differing(logged: Record, kept: Record) -> str:
    """Which members of a line are not the log's; empty when none."""
    if logged.value == kept.value and logged[1:4] == kept[1:4]:
        return ""
    return (
        ", ".join(
            name
            for name in ("timestamp", "key", "headers", "value")
            if getattr(logged, name) != getattr(kept, name)
        )
        + " differ"
    )
