"""Those who write to the outbox, and another outbox's relay on the same progress partition."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Final

from tests.simulation.broker import Broker, Busy, FencedOff
from tests.simulation.climate import OTHER_OUTBOX, Climate
from tests.simulation.database import Database
from tests.simulation.ports import HUGE
from tests.simulation.world import Fiber, World

from shopstream_api.outbox.relay.ports import Row
from shopstream_api.outbox.relay.progress import encode_progress
from shopstream_shared.topics import RELAY_PROGRESS, STREAM_TOPICS

THINK_SECONDS: Final = 0.3
WORK_SECONDS: Final = 0.05
#: Some transactions stay open for long while others pass them.
SLOW_SECONDS: Final = 2.0
ROLLED_BACK: Final = 0.1
OTHERS_TRANSACTIONS: Final = 4
#: Its transactions stay open around this long: it was paused, or has lost its broker.
OTHERS_SECONDS: Final = 4.0


class Writers:
    """Transactions over a few aggregates, each under its row locks; `left` counts what is open."""

    def __init__(self, world: World, climate: Climate, shards: Sequence[Database]) -> None:
        self._world = world
        self._climate = climate
        self._shards = shards
        self._seqs, self._txids = count(1), count(1)
        self._locked: dict[int, bool] = {}
        self.left = climate.writers
        for number in range(climate.writers):
            Fiber.of(world, partial(self._write, f"writer {number}"))

    def _write(self, name: str) -> None:
        for _ in range(self._climate.transactions):
            self._world.sleep(self._world.some(THINK_SECONDS))
            self._transaction(name)
        self.left -= 1

    def _transaction(self, name: str) -> None:
        rng = self._world.rng
        txid, rows = next(self._txids), list[tuple[int, int]]()
        touched = rng.randint(1, min(3, self._climate.aggregates))
        # In one order, as the API locks its rows: no two wait for each other.
        keys = sorted(rng.sample(range(self._climate.aggregates), touched))
        for key in keys:
            while self._locked.get(key):
                self._world.sleep(self._world.some(WORK_SECONDS))
            self._locked[key] = True
            # Rule 2: drawn under the row lock.
            rows += [(next(self._seqs), key) for _ in range(rng.choice((1, 1, 2)))]
            self._world.sleep(self._world.some(rng.choice((WORK_SECONDS, SLOW_SECONDS))))
        if not self._world.chance(ROLLED_BACK):
            for shard, database in enumerate(self._shards):
                database.commit(
                    [
                        self._row(seq, key, txid, len(rows))
                        for seq, key in rows
                        if key % len(self._shards) == shard
                    ]
                )
            self._world.note(name, "commits", [seq for seq, _ in rows])
        for key in keys:
            self._locked[key] = False

    def _row(self, seq: int, key: int, txid: int, txrows: int) -> Row:
        topic = STREAM_TOPICS[key % len(STREAM_TOPICS)]
        value = HUGE if self._world.chance(self._climate.poison) else b"%d" % seq
        return Row(seq, topic, b"k%d" % key, value, (), 0, txid, txrows)


def others(world: World, climate: Climate, broker: Broker) -> None:
    """The relay of another outbox: its records list small numbers too, and it dies at times."""

    def work() -> None:
        for _ in range(OTHERS_TRANSACTIONS):
            world.sleep(world.some(1.0))
            epoch = _patiently(world, lambda: broker.init("other"))
            record = encode_progress(OTHER_OUTBOX, range(1, world.rng.randint(2, 9)))
            place = RELAY_PROGRESS, world.rng.randrange(climate.shards)
            broker.produce("other", epoch, place, [record])
            world.note("other", "has a transaction open")
            world.sleep(world.some(OTHERS_SECONDS))
            if world.chance(0.3):
                continue  # it died; the next one settles this
            try:
                broker.end("other", epoch, commit=True)
                world.note("other", "commits")
            except FencedOff:
                world.note("other", "was too slow")

    Fiber.of(world, work)


def _patiently(world: World, ask: Callable[[], int]) -> int:
    while True:
        try:
            return ask()
        except Busy:
            world.sleep(0.1)
