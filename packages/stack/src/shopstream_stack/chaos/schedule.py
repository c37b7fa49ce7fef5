"""Which fault comes when: a pure function of the seed, the length and the kinds of faults.

Each round takes every kind once, in a shuffled order; a kind that has several targets takes
them in turn, so that a long run meets them all. The runner may be late (a fault waits until the
one before is over and all is healthy), never early, and never takes another order.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

#: The load has begun and something was published before the first fault.
FIRST_SECONDS: Final = 5.0
#: From the planned end of one fault to the next: recovery, and some healthy time to look at.
SETTLE_SECONDS: Final = 8.0
SETTLE_SECONDS_MORE_MAX: Final = 5.0
#: Nothing is begun in the last seconds, so that the end of the run is not the end of a fault.
CALM_SECONDS: Final = 10.0

Draw = Callable[[Random], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a schedule. ``at`` is in seconds from the beginning of the load.

    ``parameters``: ``seconds`` is how long it lasts at least (0: it is over at once); the others
    belong to the kind and are named in FAULTS.
    """

    at: float
    kind: str
    target: str
    parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.parameters.get("seconds", 0.0)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault, whom it may hit and how its parameters are drawn.

    ``leader`` is whoever publishes when the time comes. A target with a dash is a network link:
    whose, and to what.
    """

    targets: tuple[str, ...]
    draw: Draw


#: What the suite runs: one of each family, as soon as the one before is over, the same each time.
QUICK: Final = (
    Fault(1.0, "kill", "api"),
    Fault(2.0, "answer-lost", "leader-kafka", {"seconds": 5.0, "times": 1}),
    Fault(3.0, "stop", "leader"),
    Fault(4.0, "answer-lost", "api-postgres", {"seconds": 5.0, "times": 1}),
    Fault(5.0, "broker-kill", "kafka"),
)
QUICK_SECONDS: Final = 5.0
#: The suite shares its machine: it asserts three times what is promised.
QUICK_PATIENCE: Final = 3.0


class UnknownFault(ValueError):
    """No kind of fault has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is none of {', '.join(FAULTS)}")


def _seconds(least: float, most: float) -> Draw:
    return lambda random: {"seconds": _between(random, least, most)}


def _between(random: Random, least: float, most: float) -> float:
    return round(random.uniform(least, most), 3)


def _latency(random: Random) -> Mapping[str, float]:
    return {"seconds": _between(random, 6, 10), "delay_seconds": _between(random, 0.02, 0.3)}


def _cut(random: Random) -> Mapping[str, float]:
    # Small messages and the middle of large ones; small numbers more often.
    size = math.ceil(2 ** random.uniform(0, 12))
    return {"seconds": 8.0, "bytes": size, "times": random.randint(1, 4)}


def _answer_lost(random: Random) -> Mapping[str, float]:
    return {"seconds": 8.0, "times": random.randint(1, 3)}


_PROCESSES: Final = ("leader", "api", "relay")
_LINKS: Final = ("leader-kafka", "api-postgres", "leader-postgres")
#: Of analytics, and whom each of its stores concerns.
WORKERS: Final = ("aggregates", "recent", "archive")
FILLED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "analytics-dynamodb": ("aggregates", "recent"),
    "analytics-minio": ("archive",),
}

#: Every kind by name.
FAULTS: Final[Mapping[str, Kind]] = {
    "kill": Kind(_PROCESSES, lambda _: {}),
    "terminate": Kind(_PROCESSES, lambda _: {}),
    "stop": Kind(_PROCESSES, _seconds(2, 9)),
    "broker-kill": Kind(("kafka",), _seconds(0, 4)),
    "broker-restart": Kind(("kafka",), _seconds(0, 4)),
    "database-terminate": Kind(("postgres",), lambda _: {}),
    "database-restart": Kind(("postgres",), _seconds(0, 3)),
    "database-kill": Kind(("postgres",), _seconds(0, 3)),
    "latency": Kind(_LINKS, _latency),
    "cut": Kind(_LINKS, _cut),
    "half-open": Kind(_LINKS, _seconds(5, 10)),
    "answer-lost": Kind(_LINKS, _answer_lost),
    "worker-kill": Kind(WORKERS, lambda _: {}),
    # Around the ten seconds after which Kafka gives a silent worker's partitions away.
    "worker-stop": Kind(WORKERS, _seconds(4, 14)),
    "sink-cut": Kind(tuple(FILLED_BY), _cut),
}


def schedule(seed: int, minutes: float, kinds: Iterable[str]) -> tuple[Fault, ...]:
    """The faults of a run, in order of time; the same arguments give the same faults.

    Raises UnknownFault.
    """
    wanted = list(dict.fromkeys(kinds))
    for name in wanted:
        if name not in FAULTS:
            raise UnknownFault(name)
    random = Random(f"{seed} {','.join(sorted(wanted))}")  # noqa: S311 - repeatable on purpose
    end, at = minutes * 60 - CALM_SECONDS, FIRST_SECONDS
    found: list[Fault] = []
    for kind, target in _in_turn(sorted(wanted), random):
        fault = Fault(round(at, 3), kind, target, FAULTS[kind].draw(random))
        if at + fault.seconds > end:
            break
        found.append(fault)
        at += fault.seconds + SETTLE_SECONDS + _between(random, 0, SETTLE_SECONDS_MORE_MAX)
    return tuple(found)


def _in_turn(kinds: list[str], random: Random) -> Iterator[tuple[str, str]]:
    """Kind and target for ever (never, without kinds)."""
    targets = {
        kind: random.sample(FAULTS[kind].targets, len(FAULTS[kind].targets)) for kind in kinds
    }
    rounds = 0
    while kinds:
        for kind in random.sample(kinds, len(kinds)):
            own = targets[kind]
            yield kind, own[rounds % len(own)]
        rounds += 1
