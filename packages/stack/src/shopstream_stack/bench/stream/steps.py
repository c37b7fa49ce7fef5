"""What the rows have in common: a step of events to open streams, and the highest rate held."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from shopstream_stack.bench.stream.feed import Feed
from shopstream_stack.errors import StackError
from shopstream_stack.kit.generator import Generator, Sequences, StreamReport

#: After the last event, until every stream has had everything.
SETTLE_SECONDS_MAX: Final = 60.0
#: A rate is held if what came in that step took hardly longer than it was sent.
LATE_MAX: Final = 1.05
#: What a step may always be late: one is short in a quick run.
LATE_SECONDS: Final = 0.25
#: Above it the generator may be what limits; the row then says so.
GENERATOR_SHARE_MAX: Final = 0.6

Expected = Callable[[Feed], Mapping[str, Sequences]]


def everything(feed: Feed) -> Mapping[str, Sequences]:
    """What the streams of the one group `all` expect."""
    return {"all": feed.expected()}


@dataclass(frozen=True, slots=True)
class Step:
    """One pace, sent and received."""

    rate: float
    seconds: float
    report: StreamReport

    @property
    def delivered(self) -> float:
        """Deliveries a second; 0 after a miss."""
        return self.report.deliveries_per_second or 0.0

    def held(self, p99_ms_max: float) -> bool:
        """Whether everything came, about as fast as it was sent, and soon enough.

        Without a limit all that counts is that everything came.
        """
        if self.report.misses or math.isinf(p99_ms_max):
            return not self.report.misses
        due = max(self.seconds * LATE_MAX, self.seconds + LATE_SECONDS)
        return self.report.seconds <= due and self.report.steady.p99_ms <= p99_ms_max


def step(
    generator: Generator, feed: Feed, rate: float, seconds: float, expected: Expected = everything
) -> Step:
    """Send at this pace, wait until all has arrived, compare. Raises StackError.

    What was missed before it is its report: `begin` would forget that.
    """
    feed.warm(rate)
    before = generator.settle(expected(feed), SETTLE_SECONDS_MAX)
    if before.misses:
        return Step(rate, seconds, before)
    generator.begin()
    feed.run(rate, seconds)
    return Step(rate, seconds, generator.settle(expected(feed), SETTLE_SECONDS_MAX))


def refuse(faults: Sequence[str]) -> None:
    """Raises StackError when something is wrong already."""
    if faults:
        raise StackError("; ".join(faults))


@dataclass(slots=True)
class Climb:
    """Paces tried from slow to fast, each a few times at most: something else may be in the way."""

    p99_ms_max: float
    tries: int
    steps: list[Step] = field(default_factory=list)

    def run(
        self,
        generator: Generator,
        feed: Feed,
        rates: Sequence[float],
        seconds: float,
        expected: Expected = everything,
    ) -> None:
        """Stop at the first pace that is not held, or at a miss. Raises StackError."""
        for rate in rates:
            for _ in range(self.tries):
                self.steps.append(step(generator, feed, rate, seconds, expected))
                if self._held(self.steps[-1]) or self.steps[-1].report.misses:
                    break
            if not self._held(self.steps[-1]):
                return

    @property
    def best(self) -> Step | None:
        """The fastest pace that was held; None when not even the slowest was."""
        return next((one for one in reversed(self.steps) if self._held(one)), None)

    @property
    def faults(self) -> tuple[str, ...]:
        return tuple(fault for one in self.steps for fault in one.report.faults)

    def figures(self) -> dict[str, float]:
        """Those of the best step, 0 without one, and the p99 of every pace that was tried."""
        tried = {f"at{one.rate:g}P99Ms": one.report.steady.p99_ms for one in self.steps}
        if self.best is None:
            return {"rate": 0.0, **tried}
        return {**figures(self.best.report), "eventsPerSecond": self.best.rate, **tried}

    def _held(self, one: Step) -> bool:
        return one.held(self.p99_ms_max)


def figures(report: StreamReport) -> dict[str, float]:
    """A report's figures by the names of the table's columns."""
    return {
        "rate": report.deliveries_per_second or 0.0,
        "p50Ms": report.steady.p50_ms,
        "p99Ms": report.steady.p99_ms,
        "maxMs": report.steady.max_ms,
        "generatorShare": generator_share(report),
    }


def generator_share(report: StreamReport) -> float:
    """Of one core, what the generator took."""
    return report.processor_seconds / report.wall_seconds if report.wall_seconds else 0.0


def busy_note(*reports: StreamReport) -> str:
    """Said beside a row in which the generator may have been the limit."""
    share = max((generator_share(report) for report in reports), default=0.0)
    return f"the generator took {share:.0%} of a core" if share > GENERATOR_SHARE_MAX else ""
