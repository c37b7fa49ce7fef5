"""The engine in the test's own process: Faust, driver and lanes on a real broker, our sink."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from tests.support.analytics import all_led, log_ranges, wait_until

from shopstream_analytics.consumer.app import BatchApp, make_app
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.consumer.records import packed
from shopstream_analytics.progress import Progress
from shopstream_analytics.sink import LogRange, PartitionSink, SinkUnavailable, Topics
from shopstream_shared.clock import SystemClock
from shopstream_shared.kafka import KafkaConnection

WAIT_SECONDS = 60.0


@dataclass
class Written:
    """One partition of `NotingSink`: where it stands is its checkpoint."""

    sink: "NotingSink"
    source: Source
    durable: int

    async def write(self, batch: Batch) -> None:
        sink = self.sink
        sink.tries += 1
        if sink.away:
            raise SinkUnavailable("away")
        await asyncio.sleep(sink.seconds)
        await sink.within(batch)
        assert batch.start == self.durable == sink.position(self.source, self.durable)
        sink.positions[self.source] = self.durable = batch.next
        sink.wrote(batch)

    def due_in(self) -> float | None:
        return None

    async def flush(self) -> None:
        """Nothing is held back."""


async def _nothing(batch: Batch) -> None:
    """What else happens in a write."""


@dataclass
class NotingSink:
    """Counts writes and records, keeps positions, takes `seconds` a write; away when told so."""

    seconds: float = 0.0
    away: bool = False
    #: Called in each write, before it counts.
    within: Callable[[Batch], Awaitable[None]] = _nothing
    writes: list[int] = field(default_factory=list)
    #: Seconds from a record's timestamp to the end of its write, when asked for.
    ages: list[float] | None = None
    offsets: dict[Source, list[int]] | None = None
    positions: dict[Source, int] = field(default_factory=dict)
    tries: int = 0

    def position(self, source: Source, default: int) -> int:
        return self.positions.get(source, default)

    def wrote(self, batch: Batch) -> None:
        self.writes.append(len(batch.records))
        if self.ages is not None:
            now = SystemClock().now().timestamp()
            self.ages += [now - record.timestamp / 1_000 for record in batch.records]
        if self.offsets is not None:
            self.offsets.setdefault(batch.source, []).extend(r.offset for r in batch.records)

    @property
    def records(self) -> int:
        return sum(self.writes)

    async def prepare(self, topics: Topics) -> None:
        """Nothing to make."""

    async def open(self, source: Source, log: LogRange) -> PartitionSink:
        return Written(self, source, self.position(source, log.first))

    async def ping(self) -> None:
        """Always there."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running app and its lanes."""

    app: BatchApp
    lanes: Lanes
    progress: Progress

    async def until(self, check: Callable[[], object], what: str) -> None:
        """Deadline poll; fails at once when a lane has."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not check():
            assert not self.lanes.failed.done(), self.lanes.failed.result()
            assert time.monotonic() < deadline, f"not within {WAIT_SECONDS:g} s: {what}"
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def engine(
    brokers: str,
    topics: tuple[str, ...],
    sink: NotingSink,
    group: str,
    *,
    instance: str | None = None,
    leaves: bool = True,
) -> AsyncIterator[Engine]:
    """The engine as `worker.run` builds it, without a parent and without waiting for anything.

    ``leaves`` the group at its end, or keeps its place as one that was killed.
    """
    progress = Progress()
    lanes = Lanes(sink, progress)
    with tempfile.TemporaryDirectory(prefix="shopstream-faust-") as data_dir:
        app = make_app(
            group=group,
            topics=topics,
            brokers=brokers,
            client_id="tests",
            session_timeout_seconds=6.0,
            instance=instance,
            data_dir=Path(data_dir),
            lanes=lanes,
            make_record=packed,
        )
        await app.start()
        try:
            yield Engine(app, lanes, progress)
        finally:
            app.consumer.stop_flow()
            await lanes.settle(timeout_seconds=1)
            if leaves:
                await app.batches.leave_at_stop()
            await app.stop()


def new_topic(
    brokers: str,
    partitions: int,
    config: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
) -> str:
    """A topic of its own, led; ``name`` to make one again."""
    name = name or f"engine-{uuid4().hex[:12]}"
    admin = AdminClient(KafkaConnection(brokers, "tests").admin())
    [made] = admin.create_topics(
        [NewTopic(name, partitions, 1, config=dict(config or {}))]
    ).values()
    made.result()
    # Made is not led: a partition answers only when its leader has taken over.
    wait_until(lambda: all_led(brokers, (name,)), "every partition has its leader")
    return name


def delete_topic(brokers: str, topic: str) -> None:
    """Until the broker knows nothing of it."""
    admin = AdminClient(KafkaConnection(brokers, "tests").admin())
    admin.delete_topics([topic])[topic].result()
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, "it is gone")


def more_partitions(brokers: str, topic: str, partitions: int) -> None:
    """Until the topic has so many, all led."""
    admin = AdminClient(KafkaConnection(brokers, "tests").admin())
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result()
    wait_until(
        lambda: all_led(brokers, (topic,)) and len(log_ranges(brokers, (topic,))) == partitions,
        "every partition has its leader",
    )


def group_lag(brokers: str, group: str, topic: str, partitions: int) -> int | None:
    """What an operator's tool shows: end of the log less commit; None without a commit."""
    reader = Consumer(KafkaConnection(brokers, "tests").consumer(group))
    try:
        wanted = [TopicPartition(topic, number) for number in range(partitions)]
        committed = {tp.partition: tp.offset for tp in reader.committed(wanted, timeout=10)}
        lag = 0
        for tp in wanted:
            first, end = reader.get_watermark_offsets(tp, 10)
            if end > first and committed[tp.partition] < 0:
                return None
            lag += end - max(first, committed[tp.partition])
    finally:
        reader.close()
    return lag
