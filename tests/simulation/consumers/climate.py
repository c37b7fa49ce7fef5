"""What a schedule of the consumers is made of, drawn from its seed (swarm testing).

Each kind of fault is off in some schedules and frequent in others: what happens rarely among
everything happens soon where nothing else does.
"""

from dataclasses import dataclass
from random import Random
from typing import Final, Self

from shopstream_analytics.worker.sinks import WORKERS, WorkerName
from shopstream_shared.topics import INVENTORY, ORDERS, PRODUCTS

TOPICS: Final = (ORDERS, INVENTORY, PRODUCTS)


@dataclass(frozen=True, slots=True)
class Climate:
    """One schedule's parameters; probabilities are of each call over the network."""

    sinks: tuple[WorkerName, ...]
    #: Processes a sink. Static members keep their place while they are started anew.
    workers: int
    static: bool
    #: Partitions by topic.
    partitions: dict[str, int]
    transactions: int
    #: Events a transaction, at most.
    burst: int
    aborted: float
    #: Offsets without a record for another reason: compaction, another producer's control records.
    holes: float
    poison: float
    #: Records a batch at most: where rounds end differs from worker to worker.
    batch_records: int
    archive_records: int
    archive_bytes: int
    archive_seconds: float
    crash: float
    pause: float
    stop: float
    #: A request, or its answer, is lost; or the request arrives long after its caller gave up.
    lost: float
    late: float
    #: The store answers, but does not do it: throttled, a conflict, a fault of its own.
    refused: float
    #: A batch write is taken in part.
    handed_back: float
    latency_seconds: float
    marker_seconds: float
    #: The log's first records leave, whoever has not read them.
    retention: bool
    #: A topic is deleted and made again.
    recreated: bool

    @classmethod
    def drawn(cls, rng: Random) -> Self:
        sinks = rng.choice(((WORKERS[0],), (WORKERS[0],), (WORKERS[1],), (WORKERS[2],), WORKERS))
        return cls(
            sinks=sinks,
            workers=rng.choice((1, 2, 2, 3)) if len(sinks) == 1 else rng.choice((1, 2)),
            static=rng.random() < 0.5,
            partitions={topic: rng.choice((1, 1, 2)) for topic in _topics(rng)},
            transactions=rng.randint(3, 12),
            burst=rng.choice((1, 3, 8)),
            aborted=rng.choice((0, 0, 0.3)),
            holes=rng.choice((0, 0, 0.2)),
            poison=rng.choice((0, 0.1, 0.3)),
            batch_records=rng.choice((1, 2, 5, 100)),
            archive_records=rng.choice((1, 3, 1_000)),
            archive_bytes=rng.choice((2_000, 1_000_000)),
            archive_seconds=rng.choice((1.0, 10.0)),
            crash=rng.choice((0, 0.01, 0.02, 0.04)),
            pause=rng.choice((0, 0, 0.01, 0.03)),
            stop=rng.choice((0, 0, 0.005)),
            lost=rng.choice((0, 0, 0.02, 0.08)),
            late=rng.choice((0, 0, 0.02, 0.08)),
            refused=rng.choice((0, 0, 0.02, 0.1)),
            handed_back=rng.choice((0, 0, 0.2)),
            latency_seconds=rng.choice((0.002, 0.02, 0.1)),
            marker_seconds=rng.choice((0.001, 0.05, 0.5)),
            retention=rng.random() < 0.2,
            recreated=rng.random() < 0.25,
        )


def _topics(rng: Random) -> tuple[str, ...]:
    """Most schedules need no more than one topic to go wrong."""
    return TOPICS[: rng.choice((1, 1, 2, 3))]
