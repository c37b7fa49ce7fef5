"""A lane a partition: what was handed over waits here, and one task feeds it to the sink.

Guarantees:
- a lane writes one batch at a time, in order, and starts at the sink's own checkpoint;
- all that waits is joined before it is written, so a slow sink gets larger writes, not a longer
  queue; at most `WAITING_MAX` batches wait a partition (protocol rule 17);
- a sink that is away holds its lane back for as long as it takes; any other failure, and any break
  in the chain of positions, ends the worker, which loses nothing: the sink's checkpoint decides
  where the next one begins.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from shopstream_analytics.consumer.batch import Batch, Discontinuity, Source, join
from shopstream_analytics.progress import Progress
from shopstream_analytics.sink import LogRange, PartitionSink, Sink, SinkUnavailable
from shopstream_shared.logs import get_logger

WAITING_MAX: Final = 2
#: Full jitter between tries of a sink that is away: soon enough after it is back, never in step.
RETRY_FIRST_SECONDS: Final = 0.1
RETRY_LAST_SECONDS: Final = 2.0

log = get_logger(__name__)


class Lane:
    """One assigned partition on its way into the sink."""

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
        self._waiting: deque[Batch] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        #: Batches on their way from the fetch through Faust, not offered yet.
        self.handed = 0

    @property
    def durable(self) -> int:
        return self._sink.durable

    @property
    def has_room(self) -> bool:
        return len(self._waiting) + self.handed < WAITING_MAX

    def offer(self, batch: Batch) -> None:
        """Take a batch in. Raises Discontinuity when it does not follow the one before it."""
        self.handed = max(0, self.handed - 1)
        if batch.start != self.expected:
            raise Discontinuity(self.source, self.expected, batch.start)
        self.expected = batch.next
        self._waiting.append(batch)
        self._arrived.set()

    def close(self) -> None:
        """Let the task finish what it writes, store what the sink holds back, and end."""
        self._closing = True
        self._arrived.set()

    async def run(self) -> None:
        """Feed the sink until closed. Raises whatever is not the sink being away."""
        while await self._wait_for_work():
            if self._waiting:
                batch = join(self._waiting)
                self._waiting.clear()
                self._room.set()
                await self._persist(partial(self._sink.write, batch))
                self._progress.wrote(batch)
            due = self._sink.due_in()
            if due is not None and due <= 0:
                await self._persist(self._sink.flush)
        await self._persist(self._sink.flush)

    async def _wait_for_work(self) -> bool:
        """Until batches wait or the sink wants a flush; False when the lane is to close."""
        if not self._waiting and not self._closing:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._sink.due_in()):
                    await self._arrived.wait()
        return not self._closing

    async def _persist(self, store: Callable[[], Awaitable[None]]) -> None:
        delay = RETRY_FIRST_SECONDS
        while True:
            started = time.monotonic()
            try:
                await store()
            except SinkUnavailable as error:
                self._progress.sink_away(self.source, str(error))
                if self._closing:
                    # Not stored is not lost: the checkpoint has not moved either.
                    return
            else:
                self._progress.sink_back(self.source, time.monotonic() - started)
                return
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - jitter, not a secret
            delay = min(delay * 2, RETRY_LAST_SECONDS)


class Lanes:
    """The lanes of all partitions that this worker owns."""

    def __init__(self, sink: Sink, progress: Progress) -> None:
        self._sink = sink
        self._progress = progress
        self._lanes: dict[Source, Lane] = {}
        self._tasks: dict[Source, asyncio.Task[None]] = {}
        self._generation = 0
        self._room = asyncio.Event()
        #: Set to what ended a lane or kept one from opening; the worker ends then.
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def open(self, ranges: Mapping[Source, LogRange]) -> Mapping[Source, int]:
        """Own exactly these partitions; returns where each must be read from."""
        await self.close(timeout_seconds=0)
        try:
            opened = await asyncio.gather(
                *(self._open(source, ranges[source]) for source in ranges)
            )
        except Exception as error:
            self._fail(error)
            raise
        for lane in opened:
            self._lanes[lane.source] = lane
            self._tasks[lane.source] = asyncio.create_task(
                self._run(lane), name=f"lane {lane.source}"
            )
        self._progress.assigned(tuple(self._lanes))
        return {lane.source: lane.expected for lane in opened}

    def start_generation(self, generation: int) -> None:
        """From now on only batches read after this seek count."""
        self._generation = generation
        for lane in self._lanes.values():
            lane.handed = 0
        self._room.set()

    def with_room(self) -> set[Source]:
        """The partitions that may be fetched."""
        return {source for source, lane in self._lanes.items() if lane.has_room}

    async def wait_for_room(self, timeout_seconds: float) -> None:
        """Until some lane may have room again, at most for so long."""
        self._room.clear()
        if self.with_room():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._room.wait()

    def hand_over(self, source: Source) -> None:
        """A batch for this partition is on its way."""
        if (lane := self._lanes.get(source)) is not None:
            lane.handed += 1

    def offer(self, batch: Batch) -> None:
        """Give a batch to its lane; one from before the last seek is dropped."""
        lane = self._lanes.get(batch.source)
        if lane is None or batch.generation < self._generation:
            self._progress.dropped(batch)
            return
        self._progress.arrived()
        try:
            lane.offer(batch)
        except Discontinuity as error:
            self._fail(error)

    def durable(self, source: Source) -> int | None:
        """The sink's position, None when the partition is not ours."""
        lane = self._lanes.get(source)
        return None if lane is None else lane.durable

    def sources(self) -> tuple[Source, ...]:
        return tuple(self._lanes)

    def lacks(self, ranges: Mapping[Source, LogRange]) -> bool:
        """Whether the log holds more for a lane with room than has been handed to it."""
        return any(
            lane.has_room and lane.expected < ranges[source].end
            for source, lane in self._lanes.items()
            if source in ranges
        )

    async def close(self, *, timeout_seconds: float) -> None:
        """Give up all partitions, finishing what can be finished in the time."""
        await self.settle(timeout_seconds=timeout_seconds)
        self._lanes.clear()
        self._progress.assigned(())

    async def settle(self, *, timeout_seconds: float) -> None:
        """End the tasks, storing what can be stored in the time; positions can still be asked."""
        for lane in self._lanes.values():
            lane.close()
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._tasks.clear()

    async def _open(self, source: Source, log_range: LogRange) -> Lane:
        sink = await self._sink.open(source, log_range)
        log.info("lane opened", source=str(source), position=sink.durable)
        return Lane(source, sink, self._progress, self._room)

    async def _run(self, lane: Lane) -> None:
        try:
            await lane.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker ends by it
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        log.error("lane failed", error=type(error).__name__, detail=str(error))
        if not self.failed.done():
            self.failed.set_result(error)
