"""Bounded waits: a check goes on when the time is over, and says what did not come."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Waits:
    """How long each wait may see no progress, and how long it may take at all; in seconds.

    A minute is what the slowest part may need to begin again: a session that times out, a
    transaction that is settled, a group that joins. Together with the age at which the archive
    cuts its files.
    """

    still_seconds_max: float = 60.0
    all_seconds_max: float = 3_600.0

    def until(self, left: Callable[[], int], *, more_seconds: float = 0.0) -> bool:
        """Poll until nothing is left; False when the rest did not shrink for too long.

        ``more_seconds``: what else may pass without progress.
        """
        began = moved = time.monotonic()
        least = rest = left()
        while rest > 0:
            now = time.monotonic()
            if rest < least:
                least, moved = rest, now
            if now - moved > self.still_seconds_max + more_seconds:
                return False
            if now - began > self.all_seconds_max:
                return False
            time.sleep(POLL_SECONDS)
            rest = left()
        return True
