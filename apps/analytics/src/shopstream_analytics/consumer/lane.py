"""One assigned partition on its way into the sink: what was handed over waits, one task writes it.

Guarantees:
- one batch is written at a time, in order, from the sink's own checkpoint on;
- all that waits is joined before it is written, so a slow sink gets larger writes, not a longer
  queue; how much may wait is `rounds.RoundSize`'s to say (protocol rule 17);
- while little comes, it is gathered for a moment: a round costs the store much the same whether it
  has one event or twenty; what comes after a quiet time is written at once;
- a sink that is away is tried for as long as it takes; any other error `FAULT_TRIES_MAX` times in
  place, then it ends the worker, as a break in the chain of positions and a partition that
  another worker has do at once. Nothing is lost by that: the sink's checkpoint
  decides where the next worker begins.
"""

import asyncio
import contextlib
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from shopstream_analytics.consumer.batch import Batch, Discontinuity, Source, join
from shopstream_analytics.consumer.rounds import RoundSize
from shopstream_analytics.progress import Progress
from shopstream_analytics.sink import Halted, PartitionLost, PartitionSink, SinkUnavailable
from shopstream_analytics.timing import monotonic
from shopstream_shared.logs import get_logger

#: Batches of a partition on their way through Faust; one more is fetched while one is handed over.
HANDED_MAX: Final = 2
#: What one Faust message may hold; the partitions take turns between messages.
BATCH_BYTES_MAX: Final = 2_097_152
#: Less room than this is none: crumbs cost as much as batches.
ROOM_BYTES_MIN: Final = 65_536
#: Rounds begin so far apart while less than GATHER_BYTES wait, some twenty events: the load gate's
#: 70 events a second made fifty rounds a second of aggregates alone, which took DynamoDB Local and
#: the workers half a core of the two that requests waited for.
GATHER_SECONDS: Final = 0.5
GATHER_BYTES: Final = 8_192
#: Full jitter between tries of a sink that is away: soon enough after it is back, never in step.
RETRY_FIRST_SECONDS: Final = 0.1
RETRY_LAST_SECONDS: Final = 2.0
#: Tries of a write that fails for another reason than the sink being away.
FAULT_TRIES_MAX: Final = 3

log = get_logger(__name__)


class Lane:
    """One assigned partition."""

    def __init__(
        self,
        source: Source,
        sink: PartitionSink,
        progress: Progress,
        room: asyncio.Event,
    ) -> None:
        self.source = source
        self.expected = sink.durable
        self._sink = sink
        self._progress = progress
        self._room = room
        self._round = RoundSize()
        self._waiting: deque[Batch] = deque()
        self._waiting_bytes = 0
        self._writing_bytes = 0
        #: When the last round began, monotonic.
        self._began_at = -math.inf
        self._arrived = asyncio.Event()
        self._closing = asyncio.Event()
        self._handed: deque[tuple[float, int]] = deque()
        #: When the present call of the sink began, monotonic; None between two.
        self.called_at: float | None = None

    @property
    def durable(self) -> int:
        return self._sink.durable

    @property
    def held_bytes(self) -> int:
        """Memory that this lane's records take, on their way, waiting or being written."""
        return self._writing_bytes + self._waiting_bytes + sum(size for _, size in self._handed)

    @property
    def room(self) -> int:
        """How many bytes the next batch may have; 0: none."""
        if len(self._handed) >= HANDED_MAX:
            return 0
        coming = self._waiting_bytes + sum(size for _, size in self._handed)
        free = min(BATCH_BYTES_MAX, self._round.bytes_max - coming)
        return free if free >= ROOM_BYTES_MIN else 0

    @property
    def handed_at(self) -> float | None:
        """When the oldest batch that has not arrived was handed over, monotonic."""
        return self._handed[0][0] if self._handed else None

    def hand_over(self, size_bytes: int) -> None:
        """A batch is on its way."""
        self._handed.append((monotonic(), size_bytes))

    def forget_handed(self) -> None:
        """After a seek nothing that was on its way arrives."""
        self._handed.clear()

    def offer(self, batch: Batch) -> None:
        """Take a batch in. Raises Discontinuity when it does not follow the one before it."""
        if self._handed:
            self._handed.popleft()
        if batch.start != self.expected:
            raise Discontinuity(self.source, self.expected, batch.start)
        self.expected = batch.next
        self._waiting.append(batch)
        self._waiting_bytes += batch.size_bytes
        self._arrived.set()

    def close(self) -> None:
        """Let the task finish what it writes, store what the sink holds back, and end."""
        self._closing.set()
        self._arrived.set()

    async def run(self) -> None:
        """Feed the sink until closed. Raises whatever is not the sink being away."""
        while await self._wait_for_work():
            if self._waiting:
                await self._write_round()
            due = self._sink.due_in()
            if due is not None and due <= 0:
                await self._persist(self._sink.flush)
        await self._persist(self._sink.flush)

    async def _wait_for_work(self) -> bool:
        """Until a round or a flush is due; False when the lane is to close."""
        while not self._closing.is_set():
            left = self._due_in()
            if left is not None and left <= 0:
                return True
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._arrived.wait()
        return False

    def _due_in(self) -> float | None:
        """Seconds until a round or a flush is due; None: not before something arrives."""
        flush = self._sink.due_in()
        if not self._waiting:
            return flush
        if self._waiting_bytes >= GATHER_BYTES:
            return 0.0
        gathered = self._began_at + GATHER_SECONDS - monotonic()
        return gathered if flush is None else min(gathered, flush)

    async def _write_round(self) -> None:
        batch = join(self._waiting)
        self._waiting.clear()
        self._writing_bytes, self._waiting_bytes = self._waiting_bytes, 0
        self._room.set()
        started = self._began_at = monotonic()
        if await self._persist(partial(self._sink.write, batch)):
            self._progress.wrote(batch)
            self._round.wrote(batch.size_bytes, monotonic() - started)
        self._writing_bytes = 0
        self._room.set()

    async def _persist(self, store: Callable[[], Awaitable[None]]) -> bool:
        """Whether it is stored; it is not when the sink is away and the lane is to close."""
        delay = RETRY_FIRST_SECONDS
        faults = 0
        while True:
            started = self.called_at = monotonic()
            try:
                await store()
            except SinkUnavailable as error:
                self._progress.sink_away(self.source, str(error))
                self._round.refused()
            except (Halted, Discontinuity, PartitionLost):
                raise
            except Exception as error:
                faults += 1
                if faults >= FAULT_TRIES_MAX:
                    raise
                self._progress.fault(self.source, error)
            else:
                self._progress.sink_back(self.source, monotonic() - started)
                return True
            finally:
                self.called_at = None
            if await self._closes_within(random.uniform(0, delay)):  # noqa: S311 - jitter, not a secret
                # Not stored is not lost: the checkpoint has not moved either.
                return False
            delay = min(delay * 2, RETRY_LAST_SECONDS)

    async def _closes_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        return self._closing.is_set()
