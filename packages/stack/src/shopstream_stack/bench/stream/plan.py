"""How many streams, how long and how fast: the real run, and a quick one that proves it works."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """Sizes of a run. ``judged`` is False where they are too small to say anything."""

    judged: bool
    #: Before the first row, of the broker, whose code is compiled as it runs: events a second, and
    #: how long.
    broker_warmup_rate: float
    broker_warmup_seconds: float
    #: Of a service that has just been started.
    warmup_rate: float
    warmup_seconds: float
    #: Partitions a topic: three in all, and forty as in production.
    few: tuple[int, int, int]
    many: tuple[int, int, int]
    idle: tuple[int, ...]
    #: Memory that has not grown for so long has stopped growing.
    calm_seconds: float
    #: Connections of the rows about rate and latency.
    connections: int
    #: Events a second that are tried in turn, and how long each.
    rates: tuple[float, ...]
    stock_rates: tuple[float, ...]
    filtered_rates: tuple[float, ...]
    step_seconds: float
    #: How often a pace is tried before it counts as not held.
    tries: int
    filters: int
    #: Events a second and seconds of the latency rows.
    paces: tuple[tuple[float, float], ...]
    #: Several workers, one event in so many filters' matching; then everything to everyone.
    workers: int
    selective_connections: int
    selective_filters: int
    selective_pace: tuple[float, float]
    broad_connections: int
    broad_pace: tuple[float, float]
    #: Clients that are cut at once, those beside them, and the pace meanwhile.
    cut: int
    bystanders: int
    cut_pace: tuple[float, float]
    #: Of the connections, those that stop reading; turns with and without.
    slow: int
    slow_pace: tuple[float, float]
    slow_rounds: int
    #: Connections at which a delivery's cost is measured, and the pace.
    sizes: tuple[int, ...]
    size_pace: tuple[float, float]


STREAM_FULL: Final = StreamPlan(
    judged=True,
    broker_warmup_rate=1_000.0,
    broker_warmup_seconds=60.0,
    warmup_rate=300.0,
    warmup_seconds=5.0,
    few=(1, 1, 1),
    many=(12, 16, 12),
    idle=(2_000, 8_000),
    calm_seconds=1.0,
    connections=1_000,
    rates=(500.0, 750.0, 1_000.0, 1_100.0, 1_250.0, 1_500.0, 2_000.0, 2_500.0),
    stock_rates=(10.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0),
    filtered_rates=(500.0, 700.0, 900.0, 1_200.0, 1_500.0),
    step_seconds=6.0,
    tries=2,
    filters=100,
    paces=((10.0, 30.0), (50.0, 20.0)),
    workers=2,
    selective_connections=10_000,
    selective_filters=100,
    selective_pace=(100.0, 20.0),
    broad_connections=5_000,
    broad_pace=(50.0, 20.0),
    cut=5_000,
    bystanders=500,
    cut_pace=(10.0, 20.0),
    slow=50,
    slow_pace=(400.0, 8.0),
    slow_rounds=3,
    sizes=(100, 1_000, 5_000, 10_000),
    size_pace=(25.0, 10.0),
)
STREAM_QUICK: Final = StreamPlan(
    judged=False,
    broker_warmup_rate=50.0,
    broker_warmup_seconds=0.2,
    warmup_rate=50.0,
    warmup_seconds=0.2,
    few=(1, 1, 1),
    many=(2, 3, 2),
    idle=(20,),
    calm_seconds=0.1,
    connections=20,
    rates=(100.0,),
    stock_rates=(20.0,),
    filtered_rates=(100.0,),
    step_seconds=0.3,
    tries=1,
    filters=10,
    paces=((20.0, 0.3),),
    workers=2,
    selective_connections=20,
    selective_filters=5,
    selective_pace=(50.0, 0.3),
    broad_connections=20,
    broad_pace=(20.0, 0.3),
    cut=10,
    bystanders=10,
    cut_pace=(50.0, 1.0),
    slow=2,
    slow_pace=(100.0, 0.3),
    slow_rounds=1,
    sizes=(20,),
    size_pace=(50.0, 0.3),
)
