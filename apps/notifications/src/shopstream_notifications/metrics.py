"""What operators see of the stream; counted a batch at a time, so that it costs no client.

Several workers show one sum (`shared_metrics`): every gauge says how the living are put together.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: Seconds from the event's own time (the Kafka timestamp) to the last socket of its pass.
_DELIVERY_BUCKETS: Final = (
    *(0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 60.0),
)

_REPLAY_BUCKETS: Final = (0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
_LAG_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Metrics:
    """One set a process, on its own registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connections = Gauge(
            "shopstream_stream_connections",
            "Open streams.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.opened = Counter(
            "shopstream_stream_opened_total", "Streams opened.", registry=registry
        )
        self.closed = Counter(
            "shopstream_stream_closed_total",
            "Streams closed, by who or what ended them.",
            ["reason"],
            registry=registry,
        )
        self.refused = Counter(
            "shopstream_stream_refused_total",
            "Streams refused: server, address, principal, replays; or dropped unread: descriptors.",
            ["reason"],
            registry=registry,
        )
        self.sockets = Gauge(
            "shopstream_stream_sockets",
            "Open sockets, with those that are not streams or no longer.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.frames = Counter(
            "shopstream_stream_frames_total", "Events handed to sockets.", registry=registry
        )
        self.bytes = Counter(
            "shopstream_stream_bytes_total", "Event bytes handed to sockets.", registry=registry
        )
        self.resumed = Counter(
            "shopstream_stream_resumed_total",
            "How streams began: first, hot, cold, since, or a gap's reason.",
            ["outcome"],
            registry=registry,
        )
        self.replayed = Counter(
            "shopstream_stream_replayed_total", "Events sent by replays.", registry=registry
        )
        self.replay_size = Histogram(
            "shopstream_stream_replay_events",
            "Events that one resumed stream was sent before it was live.",
            buckets=_REPLAY_BUCKETS,
            registry=registry,
        )
        self.replays_waiting = Gauge(
            "shopstream_stream_replays_waiting",
            "Cold replays that wait for their turn.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.behind = Gauge(
            "shopstream_stream_behind",
            "Streams whose socket is full.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.waiting_bytes = Gauge(
            "shopstream_stream_waiting_bytes",
            "Event bytes that wait for streams whose socket is full, each counted for each.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.loop_lag = Histogram(
            "shopstream_stream_loop_lag_seconds",
            "How late the event loop runs what is due.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        self.canary = Histogram(
            "shopstream_stream_canary_seconds",
            "Round trips of this process's canary: produced, committed, read, in the loop.",
            buckets=_DELIVERY_BUCKETS,
            registry=registry,
        )
        self.dropped = Counter(
            "shopstream_stream_dropped_total",
            "Events that a slow client's policy left out.",
            registry=registry,
        )
        self.records = Counter(
            "shopstream_stream_records_total", "Events read from Kafka.", registry=registry
        )
        self.stalls = Counter(
            "shopstream_stream_reader_stalls_total",
            "Kafka readers replaced because they read nothing of what the broker had.",
            registry=registry,
        )
        self.log_bytes = Gauge(
            "shopstream_stream_log_bytes",
            "Memory of the shared log.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.groups = Gauge(
            "shopstream_stream_filters",
            "Different filters in use; one that several workers know counts for each.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.lag = Gauge(
            "shopstream_stream_consumer_lag",
            "Offsets not yet read; of several workers, by the one furthest behind.",
            ["topic", "partition"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.delivery = Histogram(
            "shopstream_stream_delivery_seconds",
            "From the Kafka timestamp to the sockets.",
            buckets=_DELIVERY_BUCKETS,
            registry=registry,
        )
