"""One schedule of the consumers: faults while the log grows, then calm, then the judgement."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.simulation.consumers import checks
from tests.simulation.consumers.climate import Climate
from tests.simulation.consumers.machine import Plan, drawn
from tests.simulation.consumers.operators import Operator
from tests.simulation.consumers.pieces import Piece
from tests.simulation.consumers.service import Slot
from tests.simulation.consumers.shop import Producers
from tests.simulation.consumers.stores import Stores
from tests.simulation.world import Note, Violation, World

from shopstream_shared.topics import DEAD_LETTER

START_SECONDS: Final = 2.0
WRITE_SECONDS_MAX: Final = 600.0
#: Faults go on at most this long after the last record.
STORM_SECONDS_MAX: Final = 30.0
#: Within this, without faults, everything must be stored and committed: a session time-out, a
#: rebalance, a rotation, an operator's look, and what was held up on the way.
DRAIN_SECONDS_MAX: Final = 300.0
LOOK_SECONDS: Final = 2.0


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


def run(seed: int, without: Piece | None = None, climate: Climate | None = None) -> Outcome:
    """Run one schedule; the same seed gives the same outcome, trace and all."""
    world = World(seed)
    climate = climate or Climate.drawn(world.rng)
    return play(world, climate, without)


def play(
    world: World, climate: Climate, without: Piece | None = None, plan: Plan = drawn
) -> Outcome:
    """Run one schedule in a given climate, its faults by the given plan."""
    # The service draws its jitter from here.
    state = random.getstate()
    random.seed(world.seed)
    stores = Stores(world, climate, without)
    slots = [
        Slot(stores, sink, number, plan)
        for sink in climate.sinks
        for number in range(climate.workers)
    ]
    violation: str | None = None
    try:
        _play(stores, slots)
    except Violation as error:
        violation = str(error)
    finally:
        for slot in slots:
            for machine in slot.machines:
                machine.loop.bury()
        world.forget()
        random.setstate(state)
    return Outcome(world.seed, climate, world.trace, violation)


def _play(stores: Stores, slots: Sequence[Slot]) -> None:
    world = stores.world
    producers = Producers(world, stores.climate, stores.log)
    for slot in slots:
        world.at(world.some(START_SECONDS), slot.start)
    world.at(START_SECONDS, Operator(stores, slots).look_on)
    _misfortunes(stores)
    if not world.run(lambda: not producers.left, WRITE_SECONDS_MAX):
        raise Violation(f"after {WRITE_SECONDS_MAX:.0f} s the producers are not done")
    world.run(lambda: False, world.rng.uniform(0, STORM_SECONDS_MAX))
    world.calm = True
    world.note("world", "calms down")
    limit = world.now + DRAIN_SECONDS_MAX
    while world.now < limit and not _is_quiet(stores):
        if world.broken:
            break
        began = world.now
        world.run(lambda: False, LOOK_SECONDS)
        world.now = max(world.now, began + LOOK_SECONDS)
    checks.judge(stores)


def _misfortunes(stores: Stores) -> None:
    """What befalls the log."""
    world, climate = stores.world, stores.climate
    rng = world.rng

    def retire() -> None:
        source = rng.choice(stores.log.sources)
        if not all(stores.has_begun(sink, source) for sink in climate.sinks):
            return
        first = rng.randint(0, stores.log.range(source).end)
        stores.log.retire(source, first)
        world.note("world", f"retires {source} below", first)

    def make_again() -> None:
        topic = rng.choice(list(climate.partitions))
        parts = [source for source in stores.log.sources if source.topic == topic]
        if not all(stores.has_begun(sink, source) for sink in climate.sinks for source in parts):
            return
        stores.log.make_again(topic)
        for group in stores.groups.values():
            for source in [one for one in group.committed if one.topic == topic]:
                del group.committed[source]
        world.note("world", "makes again", topic)

    if climate.retention:
        for _ in range(rng.randint(1, 3)):
            world.at(rng.uniform(0, 40.0), retire)
    if climate.recreated:
        world.at(rng.uniform(5.0, 30.0), make_again)


def _is_quiet(stores: Stores) -> bool:
    """Nothing is open on the log, on its way, or left to store and commit."""
    if (
        stores.world.waiting
        or stores.log.unadopted
        or stores.log.broker.partitions[DEAD_LETTER, 0].undecided
    ):
        return False
    for source in stores.log.sources:
        partition = stores.log.broker.partitions[source]
        end = stores.log.range(source).end
        if partition.undecided:
            return False
        for sink in stores.climate.sinks:
            committed = stores.groups[sink].committed.get(source)
            if (committed != end and end) or not stores.is_stored(sink, source, end):
                return False
    return True
