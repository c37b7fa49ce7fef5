"""What is on the log: a shop's events, made once and used by all schedules; their producers."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Final
from zlib import crc32

from tests.simulation.broker import Busy, FencedOff
from tests.simulation.consumers.climate import Climate
from tests.simulation.consumers.log import HOLE, Entry, SimLog
from tests.simulation.world import Fiber, World
from tests.support.analytics_events import DAY, Shop

from shopstream_shared.clock import epoch_ms

#: Orders of the shop, some ten events each.
LIVES: Final = 60
WRITERS: Final = 2
THINK_SECONDS: Final = 3.0
OPEN_SECONDS: Final = 0.3
#: Of the log's own time, in a second of the world's: a run of half a minute passes some hours.
PACE: Final = 600
POISON: Final = (
    None,
    b"",
    b"not json",
    b'{"specversion":"1.0"}',
    b'{"type":"no.such","id":"1"}',
)

_Made = tuple[str, str, bytes]


@cache
def events() -> Sequence[_Made]:
    """(topic, subject, value) in the shop's order; each event id once."""
    shop = Shop(1)
    lives = [shop.order_life() for _ in range(LIVES)]
    return [(one.topic, one.subject, one.value) for life in lives for one in life]


class Producers:
    """Fill the log; `left` counts what is still to be committed or aborted."""

    def __init__(self, world: World, climate: Climate, log: SimLog) -> None:
        self._world = world
        self._climate = climate
        self._log = log
        wanted = [one for one in events() if one[0] in climate.partitions]
        self._at = world.rng.randrange(len(wanted))
        self._events = wanted
        self.left = climate.transactions
        for number in range(WRITERS):
            turns = range(number, climate.transactions, WRITERS)
            Fiber.of(world, partial(self._write, f"writer {number}", len(turns)))

    def _write(self, name: str, transactions: int) -> None:
        world, broker = self._world, self._log.broker
        for _ in range(transactions):
            world.sleep(world.some(THINK_SECONDS))
            while self._log.unadopted:
                world.sleep(world.some(THINK_SECONDS))
            epoch = self._patiently(lambda: broker.init(name))
            written = [self._write_one(name, epoch) for _ in range(self._burst())]
            world.sleep(world.some(OPEN_SECONDS))
            commits = not world.chance(self._climate.aborted)
            try:
                broker.end(name, epoch, commit=commits)
            except FencedOff:
                commits = False
            world.note(name, "commits" if commits else "aborts", written)
            self.left -= 1

    def _burst(self) -> int:
        return self._world.rng.randint(1, self._climate.burst)

    def _write_one(self, name: str, epoch: int) -> str:
        """Where the record lies."""
        world, climate = self._world, self._climate
        topic, subject, value = self._events[self._at % len(self._events)]
        self._at += 1
        if topic in self._log.unadopted:
            return f"nothing to {topic}"
        place = topic, crc32(subject.encode()) % climate.partitions[topic]
        entry = Entry(
            subject.encode(),
            world.rng.choice(POISON) if world.chance(climate.poison) else value,
            (("content-type", b"application/cloudevents+json"),),
            epoch_ms(DAY) + int(world.now * PACE * 1_000),
        )
        values = [HOLE, entry] if world.chance(climate.holes) else [entry]
        end = self._patiently(lambda: self._log.broker.produce(name, epoch, place, values))
        return f"{topic}/{place[1]}@{end - 1}"

    def _patiently(self, ask: Callable[[], int]) -> int:
        while True:
            try:
                return ask()
            except Busy:
                self._world.sleep(0.1)
