"""What a schedule is made of, drawn from its seed: how many, how fast, and which faults how often.

Each kind of fault is off in some schedules and frequent in others (swarm testing): what happens
rarely among everything happens soon where nothing else does.
"""

from dataclasses import dataclass
from random import Random
from typing import Self

from shopstream_shared.topics import INVENTORY, ORDERS, PRODUCTS, RELAY_PROGRESS

OUTBOX = "outbox-a"
OTHER_OUTBOX = "outbox-b"


@dataclass(frozen=True, slots=True)
class Climate:
    """One schedule's parameters; probabilities are of each port call."""

    relays: int
    #: One for each relay; different ones stand for a changed configuration.
    transactional_ids: tuple[str, ...]
    #: Parts of the outbox, each with a relay in every process.
    shards: int
    batch_rows: int
    writers: int
    transactions: int
    aggregates: int
    partitions: dict[str, int]
    #: The leader's lock keeps relays apart; without it two lead at once, and fencing must do.
    locked: bool
    #: Records of another outbox on the same progress partition, and its open transactions.
    others: bool
    #: A row that the broker refuses, of each so many.
    poison: float
    crash: float
    pause: float
    stop: float
    #: A request, or its answer, is lost, or the request arrives long after its caller gave up.
    lost: float
    late: float
    latency_seconds: float
    marker_seconds: float

    @classmethod
    def drawn(cls, rng: Random) -> Self:
        relays = rng.choice((1, 2, 2, 2, 3))
        locked = rng.random() < 0.7
        # Relays that neither a lock nor an id keeps apart are nowhere promised to be safe.
        ids = [rng.choice("xxy") if locked else "x" for _ in range(relays)]
        return cls(
            relays=relays,
            transactional_ids=tuple(ids),
            shards=rng.choice((1, 1, 1, 2)),
            batch_rows=rng.choice((1, 2, 3, 5, 100)),
            writers=rng.choice((1, 2, 3)),
            transactions=rng.randint(2, 10),
            aggregates=rng.choice((1, 2, 4)),
            partitions={PRODUCTS: rng.choice((1, 2)), ORDERS: 1, INVENTORY: 1},
            locked=locked,
            others=rng.random() < 0.4,
            poison=rng.choice((0, 0, 0, 0.1)),
            crash=rng.choice((0, 0.01, 0.02, 0.05)),
            pause=rng.choice((0, 0, 0.02, 0.05)),
            stop=rng.choice((0, 0, 0.01)),
            lost=rng.choice((0, 0, 0.01, 0.04)),
            late=rng.choice((0, 0, 0.02, 0.08)),
            latency_seconds=rng.choice((0.002, 0.02, 0.1)),
            marker_seconds=rng.choice((0.001, 0.05, 0.5)),
        )

    @property
    def places(self) -> list[tuple[str, int]]:
        """All partitions, that of the progress records included."""
        streams = [(topic, p) for topic, count in self.partitions.items() for p in range(count)]
        return [*streams, *((RELAY_PROGRESS, shard) for shard in range(self.shards))]
