"""What all rows share: the place, the plan, the feed, and where a sink's positions are read."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import psutil
from botocore.exceptions import BotoCoreError, ClientError
from confluent_kafka import KafkaException

from shopstream_shared.topics import INVENTORY
from shopstream_stack.bench.analytics.events import Shop
from shopstream_stack.bench.analytics.feed import Backlog, BacklogFeed
from shopstream_stack.bench.analytics.place import AnalyticsPlace, Place, Stores, WorkerProcess
from shopstream_stack.bench.analytics.plan import AnalyticsPlan
from shopstream_stack.bench.analytics.positions import (
    Checkpoints,
    Hints,
    Positions,
    Stored,
    stored,
    wait_stored,
)
from shopstream_stack.bench.result import Results, Row
from shopstream_stack.demo.log_reader import LogReader
from shopstream_stack.errors import StackError
from shopstream_stack.ports import PortReservations


@dataclass(frozen=True, slots=True)
class Alone:
    """A running worker and what it fills."""

    name: str
    stores: Stores
    worker: WorkerProcess
    positions: Positions

    @property
    def living(self) -> bool:
        return psutil.pid_exists(self.worker.pid)

    def stored(self, backlog: Callable[[], Backlog]) -> Stored:
        """Send a backlog and wait until it is stored. Raises StackError."""
        used = self.worker.processor_seconds
        return stored(self.worker, self.positions, backlog(), used)


@dataclass(slots=True)
class Bench:
    """One run."""

    place: AnalyticsPlace
    ports: PortReservations
    plan: AnalyticsPlan
    results: Results
    feed: BacklogFeed = field(init=False)
    topic_ids: Mapping[str, str] = field(init=False)
    places: tuple[Place, ...] = field(init=False)
    stack: ExitStack = field(default_factory=ExitStack)
    #: What the archive row has stored, and where.
    archive: tuple[Stores, Backlog] | None = None
    _alone: Alone | None = None

    def __post_init__(self) -> None:
        self.feed = BacklogFeed(self.place.brokers)
        self.topic_ids = LogReader(self.place.brokers).topic_ids()
        self.places = tuple(self.place.ends())

    def alone(self, name: str) -> Alone:
        """The one worker that runs, with tables of its own: rows of one sink share it.

        Every other one is ended. A new one is given some events first: before, its code and the
        stores' are only being compiled. Raises StackError.
        """
        if self._alone is not None and self._alone.name == name and self._alone.living:
            return self._alone
        self.end()
        self.stack = ExitStack()
        stores = self.place.stores()
        worker = self.stack.enter_context(self.place.worker(name, stores))
        self._alone = Alone(name, stores, worker, self.positions(name, stores))
        if self.plan.warmup_events:
            events = Shop(self.plan.products).stock(self.plan.warmup_events)
            wait_stored(self._alone.positions, self.feed.send(events))
        return self._alone

    def add(self, rows: Sequence[tuple[str, Callable[[str], Row]]]) -> None:
        """Measure them in turn; one that fails is WRONG and ends no other."""
        for name, measure in rows:
            with self.place.system.reporter.step(name):
                try:
                    row = measure(name)
                except (StackError, KafkaException, ClientError, BotoCoreError) as error:
                    self.end()
                    row = Row(name, {}, (), (str(error) or type(error).__name__,))
                self.results.rows.append(row)

    def end(self) -> None:
        """End the worker that rows have shared."""
        self._alone = None
        self.stack.close()

    @property
    def stock_partitions(self) -> int:
        """How many partitions stock events have."""
        return sum(topic == INVENTORY for topic, _ in self.places)

    def positions(self, worker: str, stores: Stores) -> Positions:
        """A worker's own checkpoints."""
        if worker == "archive":
            return self.hints(stores)
        return Checkpoints(stores, f"analytics-{worker}", self.topic_ids, self.places)

    def hints(self, stores: Stores) -> Hints:
        """The archive's; the partitions of stock alone, for each is a request."""
        return Hints(stores, tuple(place for place in self.places if place[0] == INVENTORY))

    @staticmethod
    def again(backlog: Backlog) -> Backlog:
        """The same, for who begins with it now."""
        return replace(backlog, committed_at=time.monotonic())
