"""How many events, how fast and how often: the real run, and a quick one that proves it works."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class AnalyticsPlan:
    """Sizes of a run. ``judged`` is False where they are too small to say anything."""

    judged: bool
    #: Of a worker that rows share, of broker and stores: their code is compiled as they run.
    warmup_events: int
    #: Products that all events of the first row are about, and the events of each backlog.
    products: int
    aggregate_events: int
    mixed_events: int
    #: Each about a product of its own; and items of RecentEvents.
    apart_events: int
    recent_events: int
    archive_events: int
    #: Records an archive file in that row: all partitions' shares are whole files of it.
    file_records: int
    #: SIGKILLs of the archive worker, at random points of a backlog of `archive_events`.
    kills: int
    #: Records an archive file while it is killed: small ones, so that there are many borders.
    killed_file_records: int
    #: Of the latency rows: events a second, a transaction, and how long.
    pace: int
    transaction: int
    small_transaction: int
    pace_seconds: float
    #: What a write of the slow sink takes.
    sink_delay_seconds: float
    #: Events a second and seconds around the death of one of two workers.
    takeover_pace: int
    takeover_seconds_max: float
    #: Memory: waves of so many events, and how many of them pass before growth counts.
    waves: int
    wave_events: int
    first_waves: int
    #: After so long a wave's last file is stored: as the service's own, unless nobody judges.
    wave_rotate_seconds: int
    #: Products that a backlog is about, for its cost an event: from one to each event's own.
    distinct: tuple[int, ...]
    distinct_events: int
    #: Backlogs for the cost an event of aggregates and archive.
    backlog_sizes: tuple[int, ...]


ANALYTICS_FULL: Final = AnalyticsPlan(
    judged=True,
    warmup_events=30_000,
    products=1_000,
    aggregate_events=600_000,
    mixed_events=200_000,
    apart_events=30_000,
    recent_events=20_000,
    archive_events=450_000,
    file_records=25_000,
    kills=10,
    killed_file_records=5_000,
    pace=1_000,
    transaction=10,
    small_transaction=3,
    pace_seconds=20.0,
    sink_delay_seconds=0.02,
    takeover_pace=200,
    takeover_seconds_max=60.0,
    waves=10,
    wave_events=100_000,
    first_waves=3,
    wave_rotate_seconds=10,
    distinct=(1, 100, 1_000, 20_000),
    distinct_events=20_000,
    backlog_sizes=(10_000, 100_000, 1_000_000),
)
ANALYTICS_QUICK: Final = AnalyticsPlan(
    judged=False,
    warmup_events=0,
    products=20,
    aggregate_events=3_000,
    mixed_events=300,
    apart_events=150,
    recent_events=150,
    archive_events=3_000,
    file_records=500,
    kills=1,
    killed_file_records=100,
    pace=100,
    transaction=10,
    small_transaction=3,
    pace_seconds=1.0,
    sink_delay_seconds=0.02,
    takeover_pace=100,
    takeover_seconds_max=60.0,
    waves=3,
    wave_events=500,
    first_waves=1,
    wave_rotate_seconds=1,
    distinct=(1, 100),
    distinct_events=100,
    backlog_sizes=(300, 1_000),
)
