"""Is the broker there, with our topics? Looked at in the background, so health answers at once."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from shopstream_analytics.worker.topics import BrokerUnavailable, describe
from shopstream_shared.health import Unhealthy
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import DEAD_LETTER, STREAM_TOPICS

LOOK_SECONDS: Final = 3.0
#: A look takes at most the metadata time-out; an answer older than both says nothing.
STALE_SECONDS: Final = 15.0


@dataclass(slots=True)
class BrokerWatch:
    """Remembers the last look."""

    kafka: KafkaConnection
    _trouble: str | None = "not looked yet"
    _partitions: int = 0
    _looked_at: float = 0.0

    async def run(self) -> None:
        """Look again and again."""
        while True:
            try:
                topics = await describe(self.kafka, (*STREAM_TOPICS, DEAD_LETTER))
            except BrokerUnavailable as error:
                self._trouble = str(error)
            else:
                self._trouble = None
                self._partitions = sum(state.partitions for state in topics.values())
            self._looked_at = time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)

    async def probe(self) -> str:
        """For health. Raises Unhealthy."""
        if self._trouble is not None:
            raise Unhealthy(self._trouble)
        if time.monotonic() - self._looked_at > STALE_SECONDS:
            raise Unhealthy("broker: no answer")
        return f"{self._partitions} partitions"
