"""Which events came late, and which claim a time that has not come: by partition time.

Partition time is the greatest event time at lower offsets of the partition, without those that are
ahead. What it says depends
on the partition's records alone, so every replay and every recomputation finds the same, provided
that it starts with the partition time of its start: that is kept in the checkpoint, which moves
with it in one write (docs/adr/0029).

An event far beyond partition time is either the first after a quiet spell or of a wrong clock; the
records after it tell. Until then partition time stays, so that one wrong clock does not make
everybody else late.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

import msgspec

from shopstream_analytics.aggregates.definitions import AHEAD_BEYOND, AHEAD_RUN_MAX, LATE_AFTER
from shopstream_shared.clock import format_time, parse_time
from shopstream_shared.events.codec import DecodedEvent

_HOUR: Final = timedelta(hours=1)


class _Stored(msgspec.Struct, frozen=True):
    at: str | None = None
    run: list[str] = []
    next: int | None = None


_decoder: Final = msgspec.json.Decoder(_Stored)


@dataclass(frozen=True, slots=True)
class PartitionTime:
    """Partition time at a position, and the times beyond it that are not settled yet."""

    at: datetime | None = None
    run: tuple[datetime, ...] = ()

    def as_text(self, position: int) -> str:
        """For the checkpoint; with the position, which others may move without this."""
        at = None if self.at is None else format_time(self.at)
        run = [format_time(one) for one in self.run]
        return msgspec.json.encode(_Stored(at, run, position)).decode()

    @classmethod
    def from_text(cls, text: str | None, position: int) -> Self | None:
        """The reverse; None where the text is missing or speaks of another position."""
        if text is None:
            return None
        stored = _decoder.decode(text)
        if stored.next != position:
            return None
        at = None if stored.at is None else parse_time(stored.at)
        return cls(at, tuple(map(parse_time, stored.run)))


@dataclass(frozen=True, slots=True)
class Marks:
    """What was found among some events of a partition.

    ``late``: offsets. ``ahead``: the offset that showed it, and the time that the event claimed.
    """

    late: frozenset[int] = frozenset()
    ahead: tuple[tuple[int, datetime], ...] = ()

    def until(self, upto: int) -> "Marks":
        """Only what stands at an offset or below."""
        return Marks(
            frozenset(offset for offset in self.late if offset <= upto),
            tuple(one for one in self.ahead if one[0] <= upto),
        )

    def after(self, upto: int) -> "Marks":
        """Only what stands beyond an offset."""
        return Marks(
            frozenset(offset for offset in self.late if offset > upto),
            tuple(one for one in self.ahead if one[0] > upto),
        )


class Marking:
    """Looks at a partition's events in offset order, from a partition time on."""

    __slots__ = ("_ahead", "_at", "_late", "_run")

    def __init__(self, start: PartitionTime) -> None:
        self._at, self._run = start.at, start.run
        self._late: set[int] = set()
        self._ahead: list[tuple[int, datetime]] = []

    @property
    def marks(self) -> Marks:
        """What was found so far."""
        return Marks(frozenset(self._late), tuple(self._ahead))

    @property
    def time(self) -> PartitionTime:
        """Partition time after what was seen."""
        return PartitionTime(self._at, self._run)

    def see(self, offset: int, time: datetime) -> bool:
        """The next event; whether it is late."""
        at = self._at
        if at is None:
            self._at = time
        elif time - at > AHEAD_BEYOND:
            self._at, self._run = _beyond(at, (*self._run, time))
        else:
            if self._run:
                self._ahead.extend((offset, claimed) for claimed in self._run)
                self._run = ()
            if time >= at:
                self._at = time
            elif at - time >= LATE_AFTER and at - _hour_begin(time) >= _HOUR + LATE_AFTER:
                self._late.add(offset)
                return True
        return False


def mark(
    events: Iterable[tuple[int, DecodedEvent]], start: PartitionTime
) -> tuple[Marks, PartitionTime]:
    """Look at events in offset order; the marks, and partition time after them."""
    marking = Marking(start)
    for offset, event in events:
        marking.see(offset, event.time)
    return marking.marks, marking.time


def _beyond(at: datetime, run: tuple[datetime, ...]) -> tuple[datetime, tuple[datetime, ...]]:
    """Partition time and run once a run has grown; a long one moves time to its smallest."""
    if len(run) < AHEAD_RUN_MAX:
        return at, run
    edge = min(run)
    near = [time for time in run if time - edge <= AHEAD_BEYOND]
    at = max(near)
    return at, tuple(time for time in run if time - at > AHEAD_BEYOND)


def _hour_begin(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)
