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
SETTLE_SECONDS: Final = 3.0
SETTLE_SECONDS_MORE_MAX: Final = 3.0
#: Nothing is begun in the last seconds, so that the end of the run is not the end of a fault.
CALM_SECONDS: Final = 10.0

#: How far a clock jumps at most: beyond every lifetime (reservations, keys, RecentEvents' 30 days)
#: forwards; backwards below the shortest retention of a topic (7 days), past which Kafka deletes
#: what was just written.
JUMP_SECONDS_MIN: Final = 3_600.0
FORWARDS_SECONDS_MAX: Final = 40 * 86_400.0
BACKWARDS_SECONDS_MAX: Final = 6 * 86_400.0

Draw = Callable[[Random], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a schedule. ``at`` is in seconds from the beginning of the load.

    ``parameters``: ``seconds`` is how long it lasts at least (0: it is over at once, or when it has
    happened); the others belong to the kind and are named in FAULTS.
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
    Fault(2.0, "answer-lost", "leader-kafka", {"within_seconds": 5.0, "times": 1}),
    Fault(3.0, "stop", "leader"),
    Fault(4.0, "answer-lost", "api-postgres", {"within_seconds": 5.0, "times": 1}),
    Fault(5.0, "broker-kill", "kafka"),
    Fault(6.0, "stream-kill", "stream-worker"),
    Fault(7.0, "store-refuse", "analytics-dynamodb", {"seconds": 1.0}),
    Fault(8.0, "clock-jump", "api", {"seconds": 0.5, "jump_seconds": 40 * 86_400.0}),
    Fault(9.0, "worker-terminate", "recent"),
)
QUICK_SECONDS: Final = 9.0
#: The suite shares its machine: it asserts three times what is promised.
QUICK_PATIENCE: Final = 3.0


#: A run of all kinds has so many faults in so many minutes, or it shows less than is promised.
FAULTS_MIN: Final = 50
FULL_MINUTES: Final = 10.0

#: What may come after the schedule, in this order: it changes the topics for good.
ACTS: Final = ("expand", "recreate", "retention")


class UnknownFault(ValueError):
    """No kind of fault, or no act, has this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"{name!r} is none of {', '.join(known)}")


def _seconds(least: float, most: float) -> Draw:
    return lambda random: {"seconds": _between(random, least, most)}


def _between(random: Random, least: float, most: float) -> float:
    return round(random.uniform(least, most), 3)


def _latency(random: Random) -> Mapping[str, float]:
    return {"seconds": _between(random, 4, 8), "delay_seconds": _between(random, 0.02, 0.3)}


def _cut(random: Random) -> Mapping[str, float]:
    # Small messages and the middle of large ones; small numbers more often.
    size = math.ceil(2 ** random.uniform(0, 12))
    return {"within_seconds": 8.0, "bytes": size, "times": random.randint(1, 4)}


def _answer_lost(random: Random) -> Mapping[str, float]:
    return {"within_seconds": 8.0, "times": random.randint(1, 3)}


def _rebalance(random: Random) -> Mapping[str, float]:
    return {"seconds": _between(random, 1, 3), "kill": random.randint(0, 1)}


def _jump(random: Random) -> Mapping[str, float]:
    """Small jumps as often as large ones: an hour, to beyond every lifetime or retention."""
    forwards = random.random() < 1 / 2
    longest = FORWARDS_SECONDS_MAX if forwards else BACKWARDS_SECONDS_MAX
    far = math.exp(random.uniform(math.log(JUMP_SECONDS_MIN), math.log(longest)))
    return {"seconds": _between(random, 2, 4), "jump_seconds": round(far if forwards else -far)}


#: Whoever publishes when the time comes.
LEADER: Final = "leader"
_PROCESSES: Final = (LEADER, "api", "relay")
_LINKS: Final = ("leader-kafka", "api-postgres", "leader-postgres")
_STREAM: Final = ("notifications", "stream-worker")
_STORES: Final = ("dynamodb", "minio")
#: Of analytics, and whom each of its stores concerns.
WORKERS: Final = ("aggregates", "recent", "archive")
FILLED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "analytics-dynamodb": ("aggregates", "recent"),
    "analytics-minio": ("archive",),
}

#: Every kind by name.
FAULTS: Final[Mapping[str, Kind]] = {
    # Half of them hit the leader: with three in ten minutes, as a seed has, one at least does.
    "kill": Kind((LEADER, "api", LEADER, "api-2"), lambda _: {}),
    "terminate": Kind(_PROCESSES, lambda _: {}),
    "stop": Kind(_PROCESSES, _seconds(2, 9)),
    "broker-kill": Kind(("kafka",), _seconds(0, 4)),
    "broker-restart": Kind(("kafka",), _seconds(0, 4)),
    "database-terminate": Kind(("postgres",), lambda _: {}),
    "database-restart": Kind(("postgres",), _seconds(0, 3)),
    "database-kill": Kind(("postgres",), _seconds(0, 3)),
    "latency": Kind(_LINKS, _latency),
    "cut": Kind(_LINKS, _cut),
    "half-open": Kind(_LINKS, _seconds(4, 8)),
    "answer-lost": Kind(_LINKS, _answer_lost),
    "worker-kill": Kind(WORKERS, lambda _: {}),
    # Around the ten seconds after which Kafka gives a silent worker's partitions away.
    "worker-stop": Kind(WORKERS, _seconds(4, 14)),
    "worker-terminate": Kind(WORKERS, lambda _: {}),
    "analytics-kill": Kind(("analytics",), lambda _: {}),
    "analytics-terminate": Kind(("analytics",), lambda _: {}),
    "rebalance": Kind(("analytics",), _rebalance),
    "sink-cut": Kind(tuple(FILLED_BY), _cut),
    "store-kill": Kind(_STORES, _seconds(0, 3)),
    "store-stop": Kind(_STORES, _seconds(2, 6)),
    "store-slow": Kind(tuple(FILLED_BY), _latency),
    "store-refuse": Kind(tuple(FILLED_BY), _seconds(2, 6)),
    "stream-kill": Kind(_STREAM, lambda _: {}),
    "stream-terminate": Kind(_STREAM, lambda _: {}),
    "stream-stop": Kind(_STREAM[1:], _seconds(2, 6)),
    "clock-jump": Kind(("api", "api-2", "relay"), _jump),
}


def schedule(seed: int, minutes: float, kinds: Iterable[str]) -> tuple[Fault, ...]:
    """The faults of a run, in order of time; the same arguments give the same faults.

    Raises UnknownFault.
    """
    wanted = list(dict.fromkeys(kinds))
    for name in wanted:
        if name not in FAULTS:
            raise UnknownFault(name, FAULTS)
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


def acts(names: Iterable[str]) -> tuple[str, ...]:
    """The named acts in the order in which they come. Raises UnknownFault."""
    wanted = set(names)
    for name in sorted(wanted - set(ACTS)):
        raise UnknownFault(name, ACTS)
    return tuple(name for name in ACTS if name in wanted)


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
