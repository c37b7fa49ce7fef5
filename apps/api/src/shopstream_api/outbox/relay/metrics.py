"""What operators watch of the relay."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shopstream_shared.clock import Clock, epoch_ms

_BATCH_BUCKETS: Final = (1, 2, 5, 10, 50, 100, 500, 1_000, 2_000, 5_000)
_SECONDS_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class RelayMetrics:
    """Set by the relay's thread."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._events = Counter(
            "shopstream_relay_events", "Events published to the log", registry=registry
        )
        self._batch = Histogram(
            "shopstream_relay_batch_rows",
            "Outbox rows a Kafka transaction",
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        self._seconds = Histogram(
            "shopstream_relay_batch_seconds",
            "From the first produce to the deleted rows of a batch",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self.failures = Counter(
            "shopstream_relay_failures",
            "Terms of the relay that ended by a fault",
            registry=registry,
        )
        self._rows = Gauge(
            "shopstream_relay_lag_rows", "Outbox rows not yet published", registry=registry
        )
        self._age = Gauge(
            "shopstream_relay_lag_seconds",
            "Age of the oldest unpublished event",
            registry=registry,
        )
        self.poisoned = Gauge(
            "shopstream_relay_poison_rows", "Events the broker refuses for good", registry=registry
        )

    def published(self, rows: int, seconds: float) -> None:
        self._events.inc(rows)
        self._batch.observe(rows)
        self._seconds.observe(seconds)

    def lag(self, rows: int, oldest_ms: int | None) -> None:
        now = epoch_ms(self._clock.now())
        self._rows.set(rows)
        self._age.set(0 if oldest_ms is None else max(0, now - oldest_ms) / 1_000)
