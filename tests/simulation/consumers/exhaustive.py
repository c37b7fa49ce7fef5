"""Every fault at every step of two small rounds, one at a time and two at a time.

The schedules meet steps by chance; here each call of a sink to its store, its letters or its group
is met by each fate in turn: not done, done and not heard of, done late, the process killed before,
during and after it, or standing still beyond its session while another worker takes over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from tests.simulation.consumers.climate import Climate
from tests.simulation.consumers.machine import Fate, Machine
from tests.simulation.consumers.pieces import Piece
from tests.simulation.consumers.schedule import Outcome, play
from tests.simulation.world import World

from shopstream_analytics.worker.sinks import WorkerName
from shopstream_shared.topics import ORDERS

#: A fate, or None for standing still so long that another worker takes the partition over.
Blow = Fate | None
STILL_SECONDS: Final = 40.0
#: Where the log and the order of calls come from.
SEED: Final = 11
BLOWS: Final[tuple[Blow, ...]] = (*(fate for fate in Fate if fate is not Fate.ANSWERED), None)
#: What a sink does for its data; the rest (tables, heartbeats, metadata) is met by the schedules.
WRITES: Final = frozenset(
    {
        "transact_write_items",
        "update_item",
        "batch_write_item",
        "put_object",
        "init letters",
        "watermarks",
        "produce letters",
        "commit letters",
    }
)
#: A pair costs as much as a run: of two blows the first is one that leaves something behind.
FIRST_BLOWS: Final[tuple[Blow, ...]] = (Fate.KILLED_AFTER, Fate.KILLED_DURING, Fate.LATE, None)


@dataclass(slots=True)
class Script:
    """A plan that deals blows at numbered calls, and counts them."""

    blows: Mapping[int, Blow]
    calls: list[str] = field(default_factory=list)

    def __call__(self, machine: Machine, name: str) -> Fate:
        if name not in WRITES or machine.world.calm:
            return Fate.ANSWERED
        number = len(self.calls)
        self.calls.append(name)
        blow = self.blows.get(number, Fate.ANSWERED)
        if blow is None:
            machine.note("stands still", f"at {name}")
            machine.loop.frozen_until = machine.world.now + STILL_SECONDS
            machine.world.at_last(STILL_SECONDS, lambda: None)
            return Fate.ANSWERED
        return blow


@dataclass(frozen=True, slots=True)
class Result:
    """What a search found; ``runs``: how many it made."""

    sink: WorkerName
    runs: int
    calls: int
    violations: tuple[Outcome, ...]

    def __str__(self) -> str:
        lines = [f"{self.sink}: {self.calls} calls, {self.runs} runs"]
        return "\n".join([*lines, *map(str, self.violations[:1])])


def search(sink: WorkerName, without: Piece | None = None, *, pairs: bool = False) -> Result:
    """All single blows, and all pairs of them where that is asked for; stops at a violation."""
    script = Script({})
    violations = [outcome] if (outcome := _run(sink, script, without)).violation else []
    calls = len(script.calls)
    runs = 1
    for blows in _blows(calls, pairs=pairs):
        if violations:
            break
        runs += 1
        outcome = _run(sink, Script(blows), without)
        if outcome.violation:
            violations.append(outcome)
    return Result(sink, runs, calls, tuple(violations))


def _blows(calls: int, *, pairs: bool) -> Iterator[Mapping[int, Blow]]:
    for number in range(calls):
        for blow in BLOWS:
            yield {number: blow}
    if not pairs:
        return
    for first, second in combinations(range(calls), 2):
        for one in FIRST_BLOWS:
            for other in BLOWS:
                yield {first: one, second: other}


def _run(sink: WorkerName, script: Script, without: Piece | None) -> Outcome:
    return play(World(SEED), climate_of(sink), without, script)


def climate_of(sink: WorkerName) -> Climate:
    """Two workers, one partition, a few records in two batches, one of them poison."""
    return Climate(
        sinks=(sink,),
        workers=2,
        static=False,
        partitions={ORDERS: 1},
        transactions=3,
        burst=2,
        aborted=0,
        holes=0,
        poison=0.3,
        batch_records=2,
        archive_records=2,
        archive_bytes=1_000_000,
        archive_seconds=1.0,
        crash=0,
        pause=0,
        stop=0,
        lost=0,
        late=0,
        refused=0,
        handed_back=0,
        latency_seconds=0.002,
        marker_seconds=0.05,
        retention=False,
        recreated=False,
    )
