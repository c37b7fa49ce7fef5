"""What a check found: a row an invariant, the first violations of each kind, and the cut."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from shopstream_shared.clock import format_time

#: Of each kind this many are spelled out; all are counted.
SHOWN_MAX: Final = 10

Status = Literal["holds", "violated", "not checked"]

TITLES: Final[Mapping[int, str]] = {
    1: "Every version is on the log once, in order",
    2: "No event without its audit row",
    3: "The archive holds every offset once, byte for byte",
    4: "Aggregates are what the archive and the database add up to",
    5: "Every event is in RecentEvents once",
    6: "Stock is its ledger and never negative",
    7: "Every client saw every event once, in order",
    8: "Every acknowledged write is in the database",
}
#: These need journals; without one they are not checked, and nothing is wrong with that.
BY_JOURNAL: Final = frozenset({7, 8})


class Words(NamedTuple):
    """What is wrong about what; see `Violation`."""

    aggregate: str
    expected: str
    seen: str
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that must not be. ``place`` is an offset, an object's key or a journal's line."""

    kind: str
    aggregate: str
    expected: str
    seen: str
    place: str = ""

    @classmethod
    def of(cls, kind: str, words: Words) -> "Violation":
        return cls(kind=kind, **words._asdict())

    def __str__(self) -> str:
        at = f" ({self.place})" if self.place else ""
        return f"{self.kind}: {self.aggregate}: expected {self.expected}, seen {self.seen}{at}"


@dataclass(slots=True)
class Invariant:
    """One row of the report. ``counted`` is what was looked at, by name."""

    number: int
    counted: dict[str, int] = field(default_factory=dict)
    #: How many of each kind there are, and the first of them. A kind that was looked for and not
    #: found stands here with 0.
    kinds: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    #: Why (a part of) it could not be checked.
    unchecked: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return TITLES[self.number]

    @property
    def status(self) -> Status:
        if self.kinds.total():
            return "violated"
        return "not checked" if self.unchecked else "holds"

    def look_for(self, *kinds: str) -> None:
        """Name the kinds that are looked for, so that the report says 0 of them."""
        for kind in kinds:
            self.kinds.setdefault(kind, 0)

    def found(self, violation: Violation) -> None:
        """Count a violation, and keep it if it is among the first of its kind."""
        self.kinds[violation.kind] += 1
        if self.kinds[violation.kind] <= SHOWN_MAX:
            self.violations.append(violation)

    def found_all(self, kind: str, count: int, first: Iterable[Violation]) -> None:
        """Take a counted number of one kind, of which the first are spelled out."""
        left = max(0, SHOWN_MAX - self.kinds[kind])
        self.kinds[kind] += count
        self.violations.extend(islice(first, left))

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "title": self.title,
            "status": self.status,
            "counted": self.counted,
            "violations": dict(self.kinds),
            "first": [asdict(one) for one in self.violations],
            "unchecked": self.unchecked,
        }


@dataclass(frozen=True, slots=True)
class PartitionCut:
    """One partition's part of the cut; all are next offsets.

    Below ``log_start`` retention has removed the log: the archive, from ``archive_start`` on,
    stands for it.
    """

    topic: str
    partition: int
    log_start: int
    e0: int
    e1: int
    archive_start: int
    archive_next: int

    def as_json(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "partition": self.partition,
            "logStart": self.log_start,
            "e0": self.e0,
            "e1": self.e1,
            "archiveStart": self.archive_start,
            "archiveNext": self.archive_next,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """One check, whole."""

    at: datetime
    seconds: float
    invariants: Sequence[Invariant]
    cut: Sequence[PartitionCut]
    #: What a reader should know besides: waits that ran out, what stands from the archive alone.
    notes: Sequence[str]

    @property
    def holds(self) -> bool:
        """Whether every invariant holds; those by journal may be unchecked."""
        return all(
            row.status == "holds" or (row.status == "not checked" and row.number in BY_JOURNAL)
            for row in self.invariants
        )

    @property
    def violations(self) -> Counter[str]:
        """How many violations there are, by kind, over all invariants."""
        return sum((row.kinds for row in self.invariants), Counter[str]())

    def row(self, number: int) -> Invariant:
        """The row of an invariant, by DESIGN's number."""
        return self.invariants[number - 1]

    def as_json(self) -> dict[str, Any]:
        return {
            "at": format_time(self.at),
            "seconds": round(self.seconds, 1),
            "holds": self.holds,
            "invariants": [row.as_json() for row in self.invariants],
            "cut": [place.as_json() for place in self.cut],
            "notes": list(self.notes),
        }
