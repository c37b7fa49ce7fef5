"""How the relays of several processes share the shards among them.

A process leads at most its fair part, shards over processes, rounded up, and gives up what it has
above that between two batches. This is economy only: whatever two processes believe, the leader's
lock and Kafka's fencing keep a shard's events exact (protocol rules 5 and 9).
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Final

#: A process whose relay failed is not counted for so long: without a broker it would hold a share
#: that nobody publishes.
EXCLUDED_SECONDS: Final = 60.0


@dataclass(slots=True)
class Share:
    """What this process leads and may lead; used by all threads of its relays."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _led: set[int] = field(default_factory=set)
    _shards: int = 1
    _processes: int = 1
    _failed_at: float | None = None

    def see(self, shards: int, processes: int) -> None:
        """What was found in the database; ``processes`` may leave this one out."""
        with self._lock:
            self._shards, self._processes = shards, max(1, processes)

    def seat(self, shard: int) -> "Seat":
        """The place of one shard's relay."""
        return Seat(self, shard)

    def take(self, shard: int) -> bool:
        with self._lock:
            if shard >= self._shards or len(self._led) >= self._part():
                return False
            self._led.add(shard)
            return True

    def leave(self, shard: int) -> None:
        with self._lock:
            self._led.discard(shard)

    def surplus(self, shard: int) -> bool:
        with self._lock:
            if shard < self._shards and len(self._led) <= self._part():
                return False
            # No longer counted, or each thread of this process would give up its shard.
            self._led.discard(shard)
            return True

    def shards(self) -> int:
        with self._lock:
            return self._shards

    def failed(self) -> None:
        with self._lock:
            self._failed_at = time.monotonic()

    def excluded(self) -> bool:
        """Whether this process is not to be counted, as its relay failed a short while ago."""
        with self._lock:
            at = self._failed_at
        return at is not None and time.monotonic() - at < EXCLUDED_SECONDS

    def _part(self) -> int:
        return -(-self._shards // self._processes)


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of one shard's relay among those of its process."""

    share: Share
    shard: int

    def take(self) -> bool:
        """Whether to try to lead; then it counts as leading until `leave`."""
        return self.share.take(self.shard)

    def leave(self) -> None:
        """It does not lead, or no longer."""
        self.share.leave(self.shard)

    def surplus(self) -> bool:
        """Whether to give the shard up for another process; who is told so does."""
        return self.share.surplus(self.shard)

    def others(self) -> int:
        """How many other shards there are, whose relays write to the same topics."""
        return self.share.shards() - 1

    def failed(self) -> None:
        """Its term ended by a fault."""
        self.share.failed()
