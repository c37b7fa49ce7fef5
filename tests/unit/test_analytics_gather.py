"""What a lane gathers while little comes: how long, how much, and what ends it."""

import asyncio
import time
from dataclasses import dataclass

import pytest
from tests.unit.test_analytics_lanes import SOURCE, AnySink, OnePartition, batch, opened, run, until

from shopstream_analytics.consumer import lane as lane_module
from shopstream_analytics.consumer.batch import Batch
from shopstream_analytics.consumer.lane import GATHER_BYTES
from shopstream_analytics.consumer.lanes import Lanes

#: The test does not last so long.
NEVER = 3_600.0


async def one_written(sink: AnySink) -> tuple[Lanes, OnePartition]:
    """After a quiet time: nothing keeps the first one waiting."""
    lanes = await opened(sink)
    one = sink.partitions[SOURCE]
    lanes.offer(batch(0, 1, 1))
    await until(lambda: one.durable == 1)
    return lanes, one


async def turns() -> None:
    """As many turns of the loop as a round takes that is not held back, and more."""
    for _ in range(20):
        await asyncio.sleep(0)


def rounds(one: OnePartition) -> list[tuple[int, int]]:
    return [(each.start, each.next) for each in one.batches]


def test_little_is_gathered_until_there_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "GATHER_SECONDS", NEVER)

    async def test() -> None:
        lanes, one = await one_written(AnySink())
        lanes.offer(batch(1, 2, 1))
        await turns()
        lanes.offer(batch(2, 3, GATHER_BYTES - 2))
        await turns()
        assert rounds(one) == [(0, 1)]
        lanes.offer(batch(3, 4, 1))
        await until(lambda: one.durable == 4)
        assert rounds(one) == [(0, 1), (1, 4)]
        await lanes.close(timeout_seconds=1)

    run(test)


def test_little_is_written_when_the_last_round_is_long_enough_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane_module, "GATHER_SECONDS", 0.02)

    async def test() -> None:
        lanes, one = await one_written(AnySink())
        lanes.offer(batch(1, 2, 1))
        await until(lambda: one.durable == 2)
        await lanes.close(timeout_seconds=1)

    run(test)


def test_a_lane_that_is_to_close_gathers_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "GATHER_SECONDS", NEVER)

    async def test() -> None:
        lanes, one = await one_written(AnySink())
        lanes.offer(batch(1, 2, 1))
        await turns()
        await lanes.close(timeout_seconds=NEVER)
        # What waits is not lost: the checkpoint has not moved either.
        assert rounds(one) == [(0, 1)]

    run(test)


@dataclass
class Due(OnePartition):
    """A sink that holds back what it got, for a moment."""

    due_at: float | None = None
    flushes: int = 0

    async def write(self, batch: Batch) -> None:
        await super().write(batch)
        self.due_at = self.due_at or time.monotonic() + 0.02

    def due_in(self) -> float | None:
        return None if self.due_at is None else self.due_at - time.monotonic()

    async def flush(self) -> None:
        self.due_at = None
        self.flushes += 1


def test_a_flush_that_is_due_does_not_wait_for_what_is_gathered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane_module, "GATHER_SECONDS", NEVER)

    async def test() -> None:
        due = Due()
        lanes, _ = await one_written(AnySink({SOURCE: due}))
        lanes.offer(batch(1, 2, 1))
        await until(lambda: due.flushes)
        await lanes.close(timeout_seconds=1)

    run(test)
