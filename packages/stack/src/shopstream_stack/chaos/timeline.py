"""A sample each second of what the run does, for the picture and the report."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import psycopg

from shopstream_shared.clock import Clock, epoch_ms
from shopstream_stack.chaos.place import Place
from shopstream_stack.chaos.tail import WAITED_MS_MAX

SAMPLE_SECONDS: Final = 1.0
#: A day of samples: more is not kept.
SAMPLES_MAX: Final = 86_400
#: How many rows wait, and since when the oldest does that a right clock made.
_WAITING: Final = """
SELECT count(*), min(time_ms) FILTER (WHERE time_ms BETWEEN %(now)s - %(most)s AND %(now)s)
FROM outbox
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """What has happened since the beginning."""

    acknowledged: int
    published: int
    delivered: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One second; rates are a second's. ``waiting`` (rows of the outbox) is None when the database
    did not answer, ``lag_seconds`` the slowest way of an event from its commit to the log: one that
    has come, or one that still waits."""

    at: float
    acknowledged: float
    published: float
    delivered: float
    repeated: float
    waiting: int | None
    lag_seconds: float

    def as_json(self) -> Mapping[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Timeline:
    """Takes the samples; ``began`` is the moment (monotonic) they count from."""

    place: Place
    clock: Clock
    began: float
    counts: Callable[[], Counts]
    take_lag: Callable[[], float]
    samples: list[Sample] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Sample until told to stop."""
        before, last = self.counts(), time.monotonic()
        while not stop.is_set() and len(self.samples) < SAMPLES_MAX:
            await asyncio.sleep(max(0.0, last + SAMPLE_SECONDS - time.monotonic()))
            waiting, oldest_seconds = await asyncio.to_thread(self._waiting)
            now, counts = time.monotonic(), self.counts()
            rates = {
                name: round((value - before_value) / (now - last), 2)
                for (name, value), before_value in zip(
                    asdict(counts).items(), asdict(before).values(), strict=True
                )
            }
            self.samples.append(
                Sample(
                    at=round(now - self.began, 3),
                    waiting=waiting,
                    lag_seconds=round(max(self.take_lag(), oldest_seconds), 3),
                    **rates,
                )
            )
            before, last = counts, now

    def _waiting(self) -> tuple[int | None, float]:
        """How many rows wait, and for how long the oldest does."""
        now_ms = epoch_ms(self.clock.now())
        bounds = {"now": now_ms, "most": WAITED_MS_MAX}
        try:
            with self.place.connect() as session:
                row = session.execute(_WAITING, bounds).fetchone()
        except psycopg.Error:
            return None, 0.0
        count, oldest_ms = (0, None) if row is None else row
        return int(str(count)), 0.0 if oldest_ms is None else (now_ms - int(str(oldest_ms))) / 1_000
