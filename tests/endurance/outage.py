"""An hour without DynamoDB, then an hour without MinIO, on a shortened clock.

Events arrive at the pace of an hour squeezed into a few seconds or minutes. While one store is
away the worker of the other goes on; when it is back the backlog is worked off while events still
arrive, so catching up at all is faster than arrival, and how much faster is said.
"""

import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Final

from confluent_kafka import Consumer, TopicPartition
from tests.support.analytics import Analytics, log_ranges, producer, send, wait_until
from tests.support.components import LocalComponents

from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.bench.analytics.events import Shop

TRANSACTIONS_A_SECOND: Final = 10
PRODUCTS: Final = 100
SETTLE_SECONDS_MAX: Final = 600.0
#: The store that is away, the group that it stops and the one that must go on.
CASES: Final = (("dynamodb", "aggregates", "archive"), ("minio", "archive", "aggregates"))

Places = Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Away:
    """One store's absence. Seconds are real ones; ``lag`` is in events.

    ``others_lag``: the most that the other worker was behind, looked at through the outage;
    ``catch_up_ratio``: events a second while catching up, by those that arrived meanwhile.
    """

    store: str
    seconds: float
    lag: int
    others_lag: int
    arrived: int
    catch_up_seconds: float
    catch_up_ratio: float

    @property
    def holds(self) -> bool:
        """The one stood still, the other did not, and the backlog went faster than it came."""
        stopped = self.lag >= self.arrived / 2
        return stopped and self.others_lag < self.arrived / 2 and self.catch_up_ratio > 1


@dataclass(frozen=True, slots=True)
class Outages:
    """Both, and what they left: nothing behind, nothing lost, nothing twice."""

    away: list[Away]
    events: int
    counted: int
    archived: int

    @property
    def holds(self) -> bool:
        exact = self.events == self.counted == self.archived
        return exact and all(one.holds for one in self.away)


@dataclass(slots=True)
class Scene:
    """``minutes`` of outage, each of them ``60 / speed`` seconds long."""

    components: LocalComponents
    logs: Path
    minutes: float
    speed: float
    #: Arrival on the long clock.
    events_a_second: float = 50.0
    analytics: Analytics = field(init=False)
    _stop: Event = field(default_factory=Event)
    _sent: int = 0

    def play(self) -> Outages:
        """Both outages under one steady arrival, then the end's sums."""
        self.analytics = Analytics.fresh(self.components, self.logs)
        with ExitStack() as stack, ThreadPoolExecutor(1) as beside:
            for _, group, _ in CASES:
                stack.enter_context(self.analytics.worker(group))
            writing = beside.submit(self._write)
            try:
                away = [self._away(*case, writing) for case in CASES]
            finally:
                self._stop.set()
            writing.result()
            wait_until(
                lambda: all(self.analytics.lag(f"analytics-{group}") == 0 for _, group, _ in CASES),
                "everything is stored",
                SETTLE_SECONDS_MAX,
            )
        return Outages(away, self._sent, self._counted(), self._archived())

    def _write(self) -> None:
        made = producer(self.analytics.environ["KAFKA_BROKERS"])
        events = Shop(PRODUCTS).stock(sys.maxsize)
        pace = self.events_a_second * self.speed
        begin, number = time.monotonic(), 0
        while not self._stop.is_set():
            number += 1
            send(made, list(islice(events, round(pace / TRANSACTIONS_A_SECOND))))
            self._sent += round(pace / TRANSACTIONS_A_SECOND)
            self._stop.wait(max(0.0, begin + number / TRANSACTIONS_A_SECOND - time.monotonic()))

    def _away(self, store: str, stopped: str, going: str, writing: "Future[None]") -> Away:
        for group in (stopped, going):
            self._wait_close(group)
        seconds = self.minutes * 60 / self.speed
        begun, sent = time.monotonic(), self._sent
        self.components.kill(store)
        others = 0
        while time.monotonic() - begun < seconds and not writing.done():
            others = max(others, self._behind(going))
            self._stop.wait(seconds / 20)
        self.components.start(store)
        back, lag, arrived = time.monotonic(), self._behind(stopped), self._sent - sent
        before = self._sent
        self._wait_close(stopped)
        took = time.monotonic() - back
        came = self._sent - before
        return Away(
            store=store,
            seconds=round(back - begun, 1),
            lag=lag,
            others_lag=others,
            arrived=arrived,
            catch_up_seconds=round(took, 1),
            catch_up_ratio=round((lag + came) / came, 2) if came else float("inf"),
        )

    def _wait_close(self, group: str) -> None:
        """Until it is behind by no more than what comes in two seconds, which files wait for."""
        near = 2 * self.events_a_second * self.speed * 1.5
        wait_until(lambda: self._behind(group) <= near, f"{group} is near", SETTLE_SECONDS_MAX)

    def _behind(self, group: str) -> int:
        """Records that the group has not stored. Its commits repeat the sink's own position."""
        brokers = self.analytics.environ["KAFKA_BROKERS"]
        reader = Consumer(KafkaConnection(brokers, "tests").consumer(f"analytics-{group}"))
        try:
            ranges = log_ranges(brokers)
            found = reader.committed([TopicPartition(*place) for place in ranges], timeout=10)
        finally:
            reader.close()
        committed = {(one.topic, one.partition): one.offset for one in found}
        return sum(end - max(first, committed[p]) for p, (first, end) in ranges.items())

    def _counted(self) -> int:
        hours = (
            item
            for item in self.analytics.scan("SHOPSTREAM_AGGREGATES_TABLE_NAME")
            if item["pk"]["S"].startswith("all#") and item["sk"]["S"].startswith("hour#")
        )
        return sum(int(item.get("events", {"N": "0"})["N"]) for item in hours)

    def _archived(self) -> int:
        """Lines in the chains, each walked from the log's first record and checked."""
        ranges = log_ranges(self.analytics.environ["KAFKA_BROKERS"])
        return sum(
            len(one.lines)
            for topic, partition in ranges
            if topic in STREAM_TOPICS
            for one in self.analytics.chain(topic, partition, ranges[topic, partition][0])
        )
