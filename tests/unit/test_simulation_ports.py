"""The simulation's model keeps what the relay's ports promise, as the real adapters do."""

from collections.abc import Callable, Sequence
from itertools import count

import pytest
from tests.simulation.broker import Broker
from tests.simulation.climate import Climate
from tests.simulation.database import Database
from tests.simulation.ports import HUGE, SimLog, SimStore
from tests.simulation.process import Process
from tests.simulation.world import World
from tests.support.relay_ports import SCENARIOS, Ports

from shopstream_api.outbox.relay.ports import EventLog, OutboxStore, Row
from shopstream_shared.topics import PRODUCTS


class ModelPorts:
    """The ports of one process in a calm world."""

    outbox = "o"
    transactional_id = "t"
    huge = HUGE

    def __init__(self, process: Process, climate: Climate) -> None:
        self._process = process
        world = process.world
        self._broker = Broker(climate.places, world.at, lambda: world.some(climate.marker_seconds))
        self._database = Database(lambda: world.now, self.outbox)
        self._seqs, self._txids = count(1), count(1)

    def store(self) -> OutboxStore:
        return SimStore(self._process, self._database)

    def log(self, heartbeat: Callable[[], None] = lambda: None) -> EventLog:
        return SimLog(self._process, self._broker, heartbeat)

    def write(self, *transactions: Sequence[str]) -> None:
        drawn: list[list[Row]] = [[] for _ in transactions]
        txids = [next(self._txids) for _ in transactions]
        for turn in range(max(map(len, transactions))):
            for rows, keys, txid in zip(drawn, transactions, txids, strict=True):
                if turn < len(keys):
                    seq, key = next(self._seqs), keys[turn].encode()
                    rows.append(Row(seq, PRODUCTS, key, b"{}", (), 0, txid, len(keys)))
        for rows in drawn:
            self._database.commit(rows)

    def seen(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        logs = (self._broker.partitions[PRODUCTS, p] for p in self._partitions())
        return [row.key for log in logs for _, row in log.committed() if row.key in keys]

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._process.rest(0.1)

    def _partitions(self) -> range:
        return range(self._process.climate.partitions[PRODUCTS])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_model_does_as_the_real_ones(scenario: Callable[[Ports], None]) -> None:
    world = World(0)
    climate = Climate.drawn(world.rng)
    world.calm = True
    done: list[bool] = []

    def body(process: Process) -> None:
        if not done:
            scenario(ModelPorts(process, climate))
            done.append(True)

    Process(world, climate, "test", "t", body).start()
    assert world.run(lambda: bool(done), seconds_max=60)
    world.forget()
