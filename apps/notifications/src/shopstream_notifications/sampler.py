"""What has to be looked at to be known: one task for all clients, never a step per event.

Also ends sockets that ask for nothing, which nothing else would look at.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from shopstream_notifications.hub import Hub
from shopstream_notifications.limits import Limits
from shopstream_notifications.turns import Turns
from shopstream_notifications.view import bytes_waiting

#: How often the loop's lateness is measured: four steps a second cost nothing, and any pause that
#: a client could notice falls on one of them before long.
LAG_SECONDS: Final = 0.25
#: Every so many of those, sockets and clients that are behind are looked at.
LOOK_TURNS: Final = 8


class Sampler:
    """``end_late`` closes sockets whose request head is overdue at that moment."""

    def __init__(
        self, hub: Hub, limits: Limits, replays: Turns, *, end_late: Callable[[float], None]
    ) -> None:
        self._hub = hub
        self._limits = limits
        self._replays = replays
        self._end_late = end_late

    async def run(self) -> None:
        """For ever."""
        turn = 0
        while True:
            begun = time.monotonic()
            await asyncio.sleep(LAG_SECONDS)
            now = time.monotonic()
            self._hub.metrics.loop_lag.observe(max(0.0, now - begun - LAG_SECONDS))
            turn += 1
            if turn % LOOK_TURNS == 0:
                self.look(now)

    def look(self, now: float) -> None:
        """Once."""
        self._end_late(now)
        metrics = self._hub.metrics
        metrics.sockets.set(self._limits.sockets)
        metrics.replays_waiting.set(self._replays.waiting)
        behind = [bytes_waiting(g, c) for g in self._hub.groups for c in g.behind]
        metrics.behind.set(len(behind))
        metrics.waiting_bytes.set(sum(behind))
