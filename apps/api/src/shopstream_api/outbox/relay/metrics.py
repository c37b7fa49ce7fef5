"""What operators watch of the relay."""

import copy
from typing import Final, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shopstream_shared.clock import Clock, epoch_ms

_BATCH_BUCKETS: Final = (1, 2, 5, 10, 50, 100, 500, 1_000, 2_000, 5_000)
_SECONDS_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class RelayMetrics:
    """Set by the thread of one shard's relay; those of all shards are in one registry."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._families = _Families(registry)
        #: Of all shards, counted by the sweeper.
        self.poisoned = Gauge(
            "shopstream_relay_poison_rows", "Events the broker refuses for good", registry=registry
        )
        self._bind(0)

    def of(self, shard: int) -> Self:
        """The same of another shard."""
        other = copy.copy(self)
        other._bind(shard)  # noqa: SLF001 - another of this class
        return other

    def _bind(self, shard: int) -> None:
        families, label = self._families, str(shard)
        self._events = families.events.labels(label)
        self._batch = families.batch.labels(label)
        self._seconds = families.seconds.labels(label)
        self.failures = families.failures.labels(label)
        self._rows = families.rows.labels(label)
        self._age = families.age.labels(label)

    def published(self, rows: int, seconds: float) -> None:
        self._events.inc(rows)
        self._batch.observe(rows)
        self._seconds.observe(seconds)

    def lag(self, rows: int, oldest_ms: int | None) -> None:
        now = epoch_ms(self._clock.now())
        self._rows.set(rows)
        self._age.set(0 if oldest_ms is None else max(0, now - oldest_ms) / 1_000)


class _Families:
    """What is measured, each with the shard as its label."""

    def __init__(self, registry: CollectorRegistry) -> None:
        shard = ("shard",)
        self.events = Counter(
            "shopstream_relay_events", "Events published to the log", shard, registry=registry
        )
        self.batch = Histogram(
            "shopstream_relay_batch_rows",
            "Outbox rows a Kafka transaction",
            shard,
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        self.seconds = Histogram(
            "shopstream_relay_batch_seconds",
            "From the first produce to the deleted rows of a batch",
            shard,
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self.failures = Counter(
            "shopstream_relay_failures",
            "Terms of the relay that ended by a fault",
            shard,
            registry=registry,
        )
        self.rows = Gauge(
            "shopstream_relay_lag_rows",
            "Outbox rows not yet published, counted to 10,000; told by leader and standbys alike",
            shard,
            registry=registry,
        )
        self.age = Gauge(
            "shopstream_relay_lag_seconds",
            "Age of the oldest unpublished event; told by leader and standbys alike",
            shard,
            registry=registry,
        )
