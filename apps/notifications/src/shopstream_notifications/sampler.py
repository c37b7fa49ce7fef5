"""What has to be looked at to be known: one task for all clients, never a step per event.

Also ends sockets that ask for nothing, which nothing else would look at.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from shopstream_notifications.limits import Limits
from shopstream_notifications.metrics import Metrics

#: How often sockets are looked at.
SAMPLE_SECONDS: Final = 1.0


class Sampler:
    """``end_late`` closes sockets whose request head is overdue at that moment."""

    def __init__(
        self, metrics: Metrics, limits: Limits, *, end_late: Callable[[float], None]
    ) -> None:
        self._metrics = metrics
        self._limits = limits
        self._end_late = end_late

    async def run(self) -> None:
        """For ever."""
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(SAMPLE_SECONDS)

    def look(self, now: float) -> None:
        """Once."""
        self._end_late(now)
        self._metrics.sockets.set(self._limits.sockets)
