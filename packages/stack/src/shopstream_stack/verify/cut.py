"""The cut through a running system (protocol rule 31).

Everything below E0 was committed before the snapshot; everything in the snapshot is published below
E1. The rule's wait for LSO = high watermark is made a partition at a time, against the watermark of
one moment: under steady writes the two need never be equal at once, and below that watermark every
transaction has ended all the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shopstream_stack.errors import StackError
from shopstream_stack.verify.database import Database, Snapshot
from shopstream_stack.verify.log import Log, Place
from shopstream_stack.verify.waits import Waits


@dataclass(slots=True)
class Cut:
    """Offsets by partition; what did not come in time stands in ``late``.

    A partition that was made in between has no E0: nothing in it is below it.
    """

    e0: Mapping[Place, int]
    e1: dict[Place, int] = field(default_factory=dict)
    #: The end of what must be consumed: behind the last record below E1 only markers follow.
    needed: dict[Place, int] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cutter:
    """Takes the two halves of the cut, before and after the snapshot."""

    log: Log
    database: Database
    waits: Waits

    def begin(self) -> Cut:
        """E0; the snapshot comes after. Raises StackError."""
        ends = self._stable()
        return Cut(e0=ends)

    def finish(self, cut: Cut, snapshot: Snapshot) -> None:
        """E1: when what the snapshot's outbox held is published. Raises StackError."""
        last = snapshot.last_seq
        if not self.waits.until(lambda: self.database.waiting(last)):
            count = self.database.waiting(last)
            cut.late.append(f"{count} outbox rows were not published in time")
        cut.e1 = dict(self._stable())
        starts = self.log.starts(cut.e1)
        for place, end in cut.e1.items():
            found = self.log.last_record(place, starts[place], end)
            cut.needed[place] = 0 if found is None else found + 1

    def _stable(self) -> Mapping[Place, int]:
        """The high watermarks of this moment, once every transaction below them has ended."""
        ends = self.log.ends(self.log.places())

        def open_offsets() -> int:
            stable = self.log.stable_ends(ends)
            return sum(max(0, end - stable[place]) for place, end in ends.items())

        if not self.waits.until(open_offsets):
            raise StackError("A Kafka transaction stays open: its records can be judged by nobody")
        return ends


def await_all(
    waits: Waits,
    needed: Mapping[Place, int],
    at: Callable[[Place], int],
    *,
    more_seconds: float = 0.0,
) -> list[str]:
    """Wait until every partition is consumed as far as needed; the ones that are not, in words."""
    reached: dict[Place, int] = {}

    def left() -> int:
        for place, end in needed.items():
            if reached.get(place, -1) < end:
                reached[place] = at(place)
        return sum(max(0, end - reached[place]) for place, end in needed.items())

    waits.until(left, more_seconds=more_seconds)
    return [
        f"{place} is at {reached[place]} of {end}"
        for place, end in needed.items()
        if reached[place] < end
    ]
