"""Which events came late or ahead of their time, told a second time from the manual's words.

All times are microseconds since 1970. See docs/metrics.md for the words, and the decision record
on metrics for why the log's own order is the clock.
"""

from typing import Final

_MINUTE: Final = 60_000_000
_HOUR: Final = 60 * _MINUTE
#: So long after its hour an event is late; so far beyond partition time it may be ahead.
_LATE: Final = 10 * _MINUTE
_AHEAD: Final = _HOUR
#: Records in a row beyond partition time that mean that time itself has moved.
_RUN: Final = 16


class PartitionTime:
    """One partition's time, told of each event in offset order."""

    def __init__(self) -> None:
        self._now: int | None = None
        self._beyond: list[int] = []

    def see(self, time: int) -> tuple[bool, list[int]]:
        """Whether this event is late, and the times of those that it shows to have been ahead."""
        if self._now is None:
            self._now = time
            return False, []
        if time > self._now + _AHEAD:
            self._beyond.append(time)
            if len(self._beyond) == _RUN:
                self._move()
            return False, []
        shown, self._beyond = self._beyond, []
        late = self._now >= time - time % _HOUR + _HOUR + _LATE
        self._now = max(self._now, time)
        return late, shown

    def _move(self) -> None:
        edge = min(self._beyond)
        self._now = max(time for time in self._beyond if time <= edge + _AHEAD)
        self._beyond = [time for time in self._beyond if time > self._now + _AHEAD]
