"""A refusal in the one form that a browser survives.

``EventSource`` gives up for ever on any status but 200. So whoever is refused gets a stream: the
reason as a named event, a reconnect time of its own, and the end.
"""

import random
from typing import Final, Literal

from shopstream_notifications import sse
from shopstream_notifications.metrics import Metrics

#: Who was refused comes back after so many milliseconds: long against a reconnect's two seconds,
#: so that what was too much becomes less, and at random, so that they do not come together.
RETRY_MS: Final = (10_000, 60_000)

#: server: no more sockets; address, principal: they have their streams; replays: too many wait.
Reason = Literal["server", "address", "principal", "replays"]


class Refusals:
    """Encodes and counts them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._random = random.SystemRandom()

    def frame(self, reason: Reason) -> bytes:
        """The last thing that a refused client gets."""
        self._metrics.refused.labels(reason).inc()
        retry_ms = self._random.randint(*RETRY_MS)
        return sse.control(
            "stream.refused", {"reason": reason, "retryMs": retry_ms}, retry_ms=retry_ms
        )

    def dropped(self) -> None:
        """Count a connection that was dropped unread."""
        self._metrics.refused.labels("descriptors").inc()
