"""What a measurement gives: figures, the bars they must reach, and faults that void them."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

_HOLDS: Final = {">=": operator.ge, "<=": operator.le, "<": operator.lt, "==": operator.eq}
Verdict = Literal["holds", "MISSED", "WRONG", "measured"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise about one figure."""

    name: str
    value: float
    how: Literal[">=", "<=", "<", "=="]
    limit: float

    @property
    def holds(self) -> bool:
        return bool(_HOLDS[self.how](self.value, self.limit))

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3g} {self.how} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Point:
    """What one size costs: a point of a line in the picture (`picture.PANELS` has the units)."""

    panel: Literal["connections", "events", "distinct", "rows"]
    line: str
    size: int
    cost: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. With faults its figures count for nothing: it does not hold."""

    name: str
    figures: Mapping[str, float]
    bars: tuple[Bar, ...] = ()
    faults: tuple[str, ...] = ()
    note: str = ""
    points: tuple[Point, ...] = ()

    def verdict(self, *, judged: bool = True) -> Verdict:
        """``judged``: whether bars count; correctness always does."""
        if self.faults:
            return "WRONG"
        if not judged or not self.bars:
            return "measured"
        return "holds" if all(bar.holds for bar in self.bars) else "MISSED"


@dataclass(slots=True)
class Results:
    """All rows of a run, and what else a reader of the figures must know."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
