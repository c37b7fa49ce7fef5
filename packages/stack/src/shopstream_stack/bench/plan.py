"""How long, how often and how large: the real run, and a quick one that only proves it works."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of a run. ``judged`` is False where the times are too short to say anything."""

    judged: bool
    #: Turns of floor and API each.
    rounds: int
    seconds: float
    warmup_seconds: float
    #: Of the broker, whose machine code is made while it works.
    broker_warmup_seconds: float
    #: Of POST /products.
    connections: tuple[int, ...]
    read_connections: int
    #: Of lists and search: a core each, as latency is asked for, not throughput.
    page_connections: int
    page_seconds: float
    order_connections: int
    products: int
    import_rows: int
    #: Products at which one request's latency is looked at; the largest are those of above.
    table_sizes: tuple[int, ...]


FULL: Final = Plan(
    judged=True,
    rounds=3,
    seconds=6.0,
    warmup_seconds=1.5,
    broker_warmup_seconds=20.0,
    connections=(8, 32, 64),
    read_connections=32,
    page_connections=2,
    page_seconds=4.0,
    order_connections=32,
    products=1_000_000,
    import_rows=50_000,
    table_sizes=(1_000, 100_000, 1_000_000),
)
QUICK: Final = Plan(
    judged=False,
    rounds=1,
    seconds=0.5,
    warmup_seconds=0.1,
    broker_warmup_seconds=0.5,
    connections=(8,),
    read_connections=8,
    page_connections=2,
    page_seconds=0.3,
    order_connections=8,
    products=2_000,
    import_rows=500,
    table_sizes=(200, 2_000),
)


@dataclass(frozen=True, slots=True)
class RelayPlan:
    """Sizes of a run of `bench-relay`."""

    judged: bool
    #: Single writes, and how many come in a second.
    writes: int
    writes_a_second: int
    #: Of the broker, whose machine code is made while it works: backlogs of so many, single ones.
    warmup_rows: int
    warmup_writes: int
    #: Turns of relay and floor each, every one a backlog of so many rows.
    rounds: int
    backlog_rows: int
    #: Rows of all waves that show whether the table grows.
    churn_rows: int
    wave_rows: int
    #: Backlogs whose cost an event is measured.
    backlog_sizes: tuple[int, ...]


RELAY_FULL: Final = RelayPlan(
    judged=True,
    writes=3_000,
    writes_a_second=100,
    warmup_rows=100_000,
    warmup_writes=12_000,
    rounds=3,
    backlog_rows=200_000,
    churn_rows=1_000_000,
    wave_rows=20_000,
    backlog_sizes=(10_000, 100_000, 1_000_000),
)
RELAY_QUICK: Final = RelayPlan(
    judged=False,
    writes=50,
    writes_a_second=100,
    warmup_rows=500,
    warmup_writes=20,
    rounds=1,
    backlog_rows=5_000,
    churn_rows=10_000,
    wave_rows=2_500,
    backlog_sizes=(500, 2_000),
)
