"""One schedule: a seed's world runs through its faults, calms down, drains, and is judged."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from logging import CRITICAL
from typing import Final

import structlog
from prometheus_client import CollectorRegistry
from tests.simulation import checks
from tests.simulation.broker import Broker
from tests.simulation.climate import OUTBOX, Climate
from tests.simulation.database import Database
from tests.simulation.pieces import Piece
from tests.simulation.ports import SimLog, SimStore, SimWaits
from tests.simulation.process import Process
from tests.simulation.world import Note, Violation, World
from tests.simulation.writers import Writers, others

from shopstream_api.outbox.relay.metrics import RelayMetrics
from shopstream_api.outbox.relay.relay import Relay, RelayOptions
from shopstream_api.outbox.relay.shards import transactional_id_of
from shopstream_api.outbox.relay.share import Seat, Share
from shopstream_api.outbox.relay.status import RelayStatus
from shopstream_shared.clock import ManualClock
from shopstream_shared.crash import CrashPoints

#: Relays start one after the other, beside the first writers.
START_SECONDS: Final = 1.0
#: Faults go on at most this long after the last writer.
STORM_SECONDS_MAX: Final = 20.0
#: How often a relay is told, where it looks, that another process shall have its shard.
HANDED_OVER: Final = 0.02
WRITE_SECONDS_MAX: Final = 600.0
#: Within this, without faults, everything must be on the log: a transaction time-out, a session's
#: silence, and what was held up on the way.
DRAIN_SECONDS_MAX: Final = 120.0

#: What ends a term in the ordinary course of faults.
FORESEEN: Final = ("StoreFailed", "LogFailed", "Fenced", "RowsRefused")

#: Nobody reads them here.
_METRICS: Final = RelayMetrics(CollectorRegistry(), ManualClock(datetime.now(UTC)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one seed; ``violation`` is None when all held."""

    seed: int
    climate: Climate
    trace: Sequence[Note]
    violation: str | None

    def __str__(self) -> str:
        lines = [f"seed {self.seed}", str(self.climate), *map(str, self.trace)]
        return "\n".join([*lines, f"VIOLATION: {self.violation}" if self.violation else "all held"])


def run(seed: int, without: Piece | None = None) -> Outcome:
    """Run one schedule; the same seed gives the same outcome, trace and all."""
    world = World(seed)
    climate = Climate.drawn(world.rng)
    try:
        _run(world, climate, without)
    except Violation as violation:
        return Outcome(seed, climate, world.trace, str(violation))
    finally:
        world.forget()
    return Outcome(seed, climate, world.trace, None)


@contextmanager
def silence() -> Iterator[None]:
    """The relay's log lines tell of thousands of faults; the trace tells them better."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def _run(world: World, climate: Climate, without: Piece | None) -> None:
    broker = Broker(climate.places, world.at, lambda: world.some(climate.marker_seconds))
    shards = [
        Database(lambda: world.now, OUTBOX, shard, alone=climate.shards == 1, locked=climate.locked)
        for shard in range(climate.shards)
    ]
    writers = Writers(world, climate, shards)
    if climate.others:
        others(world, climate, broker)
    for database in shards:
        database.on_position = partial(_look, world, broker)
        relay = _Relay(broker, database, without)
        for number, transactional_id in enumerate(climate.transactional_ids):
            name = f"relay {number}" + (f"/{database.shard}" if climate.shards > 1 else "")
            own_id = transactional_id_of(transactional_id, database.shard)
            process = Process(world, climate, name, own_id, relay.run)
            world.at(world.some(START_SECONDS), process.start)
    if not world.run(lambda: not writers.left, WRITE_SECONDS_MAX):
        raise Violation(f"after {WRITE_SECONDS_MAX:.0f} s {writers.left} writers are not done")
    world.run(lambda: False, world.rng.uniform(0, STORM_SECONDS_MAX))
    world.calm = True
    for database in shards:
        # Two leaders fence each other for ever: harmless, but only the lock lets one get on.
        database.locked = True
    world.note("world", "calms down")
    quiet = world.run(lambda: _is_quiet(world, broker, shards), DRAIN_SECONDS_MAX)
    if world.broken:
        raise Violation(world.broken[0])
    checks.judge(broker, shards)
    if climate.locked and climate.shards == 1:
        checks.position_is_behind_all(broker, shards[0])
    if not quiet:
        raise Violation(f"after {DRAIN_SECONDS_MAX:.0f} s of calm something is still open")


def _look(world: World, broker: Broker, stream_id: str) -> None:
    wrong = checks.position_is_within(broker, stream_id)
    if wrong is not None:
        world.broken.append(wrong)


def _is_quiet(world: World, broker: Broker, shards: Sequence[Database]) -> bool:
    """Nothing is left to publish, open on the log or on its way."""
    return (
        not world.waiting
        and not any(database.outbox for database in shards)
        and all(not partition.undecided for partition in broker.partitions.values())
    )


@dataclass(frozen=True, slots=True)
class _Seat(Seat):
    """Gives the shard up between two batches now and then, as for another process."""

    process: Process

    def surplus(self) -> bool:
        world = self.process.world
        if world.calm or not world.chance(HANDED_OVER):
            return False
        self.process.note("hands over")
        return True


class _Watched(RelayStatus):
    """Failures go into the trace; those that a relay does not foresee are violations."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def failed(self, reason: str) -> None:
        super().failed(reason)
        self._process.note("fails", reason)
        if reason.partition(":")[0] not in FORESEEN:
            self._process.world.broken.append(f"unforeseen: {reason}")


@dataclass(frozen=True, slots=True)
class _Relay:
    """What a process runs."""

    broker: Broker
    database: Database
    without: Piece | None

    def run(self, process: Process) -> None:
        process.stopping = False
        share = Share()
        share.see(process.climate.shards, processes=1)
        Relay(
            open_store=lambda: SimStore(process, self.database, self.without),
            open_log=lambda heartbeat: SimLog(
                process, self.broker, heartbeat, self.database.shard, self.without
            ),
            options=RelayOptions(process.transactional_id, process.climate.batch_rows),
            waits=SimWaits(process),
            status=_Watched(process),
            metrics=_METRICS,
            crash=CrashPoints(),
            seat=_Seat(share, self.database.shard, process),
        ).run()
