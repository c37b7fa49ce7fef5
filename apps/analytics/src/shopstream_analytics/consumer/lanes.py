"""The lanes of all partitions that this worker owns, and the one bound above them.

Whatever a lane may gather for itself (`rounds`), all of them together hold `HELD_BYTES_MAX` and at
most a smallest round each beyond it, so that no lane waits for another's sink.
"""

import asyncio
import contextlib
import random
from collections.abc import Mapping
from typing import Final, Protocol

from shopstream_analytics.consumer.batch import Batch, Discontinuity, Source
from shopstream_analytics.consumer.lane import ROOM_BYTES_MIN, Lane
from shopstream_analytics.consumer.rounds import ROUND_BYTES_FIRST
from shopstream_analytics.progress import Progress
from shopstream_analytics.sink import LogRange, PartitionSink, Sink, SinkUnavailable
from shopstream_shared.logs import get_logger

#: Of all lanes together, as `records.size_of` counts; with what aiokafka has fetched and the
#: allocator keeps, a worker grows by nearly twice as much (docs/analytics.md).
HELD_BYTES_MAX: Final = 33_554_432
#: Tries to open a partition while the sink is away; then the worker ends and waits outside of the
#: group until it is back.
OPEN_TRIES_MAX: Final = 4
OPEN_RETRY_SECONDS_MAX: Final = 1.0
#: A call of the sink that neither ends nor fails by then hangs: each of its steps has a shorter
#: bound of its own, and after a round of more than ROUND_SECONDS_MAX come smaller ones.
CALL_SECONDS_MAX: Final = 600.0
#: Through Faust, from the fetch into the lane: a matter of milliseconds.
HANDED_SECONDS_MAX: Final = 30.0
#: Opening the lanes and seeking; below REQUEST_SECONDS, at which Faust gives up in silence.
SEEK_SECONDS_MAX: Final = 20.0

log = get_logger(__name__)


class AssignmentChanged(Exception):
    """The group has taken back a partition that was about to be read; it says anew what is ours."""


class Reader(Protocol):
    """The port to what the group has given to us of the log."""

    async def log_ranges(self) -> Mapping[Source, LogRange]:
        """What the log holds of the assigned partitions, asked from the broker now."""
        ...

    async def read_from(self, positions: Mapping[Source, int]) -> int:
        """Read on from these positions; the generation of what is read from now on.

        Raises AssignmentChanged.
        """
        ...


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

    async def take_over(self, reader: Reader) -> None:
        """Own what the reader was given, and let it read on from the sink's checkpoints.

        Idempotent. Raises what kept a lane from opening; the worker ends by it. When the assignment
        changes meanwhile nothing is owned: the next one is taken over as this one was to be.
        """
        try:
            async with asyncio.timeout(SEEK_SECONDS_MAX):
                positions = await self.open(await reader.log_ranges())
                self.start_generation(await reader.read_from(positions))
        except AssignmentChanged as change:
            log.info("assignment changed", detail=str(change))
            await self.close(timeout_seconds=0)
        except Exception as error:
            self.fail(error)
            raise

    async def open(self, ranges: Mapping[Source, LogRange]) -> Mapping[Source, int]:
        """Own exactly these partitions; returns where each must be read from.

        Raises what `Sink.open` raises; SinkUnavailable after some tries.
        """
        await self.close(timeout_seconds=0)
        opened = await asyncio.gather(*(self._open(source, ranges[source]) for source in ranges))
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
            lane.forget_handed()
        self._room.set()

    def room(self) -> dict[Source, int]:
        """The partitions that may be fetched, and how many bytes of each."""
        held = self.held_bytes
        room: dict[Source, int] = {}
        for source, lane in self._lanes.items():
            # A lane that holds nothing is always served.
            floor = 0 if lane.held_bytes else ROUND_BYTES_FIRST
            grant = min(lane.room, max(HELD_BYTES_MAX - held, floor))
            if grant >= ROOM_BYTES_MIN:
                room[source] = grant
                held += grant
        return room

    @property
    def held_bytes(self) -> int:
        """Memory that the records of all lanes take."""
        return sum(lane.held_bytes for lane in self._lanes.values())

    async def wait_for_room(self, timeout_seconds: float) -> None:
        """Until some lane may have room again, at most for so long."""
        self._room.clear()
        if self.room():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._room.wait()

    def hand_over(self, batch: Batch) -> None:
        """This batch is on its way."""
        if (lane := self._lanes.get(batch.source)) is not None:
            lane.hand_over(batch.size_bytes)

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
            self.fail(error)

    def durable(self, source: Source) -> int | None:
        """The sink's position, None when the partition is not ours."""
        lane = self._lanes.get(source)
        return None if lane is None else lane.durable

    def sources(self) -> tuple[Source, ...]:
        return tuple(self._lanes)

    def lacking(self, ranges: Mapping[Source, LogRange]) -> dict[Source, int]:
        """Lanes with room for which the log holds more than was handed to them: their positions."""
        return {
            source: self._lanes[source].expected
            for source in self.room()
            if source in ranges and self._lanes[source].expected < ranges[source].end
        }

    def hangs(self, now: float) -> str | None:
        """What takes longer than anything takes that works, by the monotonic clock."""
        for lane in self._lanes.values():
            if lane.called_at is not None and now - lane.called_at > CALL_SECONDS_MAX:
                return f"{lane.source}: a call of the sink hangs"
            if lane.handed_at is not None and now - lane.handed_at > HANDED_SECONDS_MAX:
                return f"{lane.source}: a fetched batch does not reach its lane"
        return None

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

    def fail(self, error: BaseException) -> None:
        """End the worker by this error; the first one stands."""
        log.error("lane failed", error=type(error).__name__, detail=str(error))
        if not self.failed.done():
            self.failed.set_result(error)

    async def _open(self, source: Source, log_range: LogRange) -> Lane:
        for tried in range(1, OPEN_TRIES_MAX + 1):
            try:
                sink = await self._sink.open(source, log_range)
            except SinkUnavailable:
                if tried == OPEN_TRIES_MAX:
                    raise
                await asyncio.sleep(random.uniform(0, OPEN_RETRY_SECONDS_MAX))  # noqa: S311 - jitter
            else:
                break
        return self._lane(source, sink)

    def _lane(self, source: Source, sink: PartitionSink) -> Lane:
        log.info("lane opened", source=str(source), position=sink.durable)
        return Lane(source, sink, self._progress, self._room)

    async def _run(self, lane: Lane) -> None:
        try:
            await lane.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker ends by it
            self.fail(error)
