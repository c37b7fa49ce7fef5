"""What each safety piece of the consumers is for: without it, the same events leave a store wrong.

Each test runs twice, as it is and with one piece patched out of the production code, on the real
stores: what is stored must be exact, and without the piece it must not be. Who writes when is
written down here, two writers of a partition in one loop: one that holds it, and a zombie.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.property.test_stream_resume import hop
from tests.support import sabotage_consumers as without
from tests.support.analytics import (
    Analytics,
    ensure_topics,
    letters_of,
    producer,
    s3_client,
)
from tests.support.analytics_engine import NotingSink, engine, new_topic
from tests.support.analytics_events import LogRecord, event, naive_counts, order_body, record_of
from tests.support.analytics_reads import KeptLetters
from tests.support.components import LocalComponents
from tests.support.stream import simulate

from shopstream_analytics.aggregates.sink import AggregatesSink, Letter, PartitionAggregates
from shopstream_analytics.archive.sink import PartitionArchive
from shopstream_analytics.checkpoints import CheckpointGap
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.dead_letters import LettersFenced, PartitionLetters
from shopstream_analytics.progress import Progress
from shopstream_analytics.rebuild.tables import Tables
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import LogRange, PartitionSink, Sink, SinkUnavailable, TopicState
from shopstream_analytics.worker.sinks import WorkerName, open_sink
from shopstream_shared.archive.bucket import S3Bucket
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import DEAD_LETTER, ORDERS
from shopstream_stack.archive.check import Check

SOURCE: Final = Source(ORDERS, 0)
EVENTS: Final = 8
#: Longer than any test: who leaves this transaction open is the test, not the broker.
OPEN_MS_MAX: Final = 300_000
WAIT_SECONDS: Final = 60.0

with_and_without = pytest.mark.parametrize("sabotaged", [False, True], ids=["whole", "without"])
Piece = Callable[[pytest.MonkeyPatch], None]


@dataclass(slots=True)
class Trial:
    """A partition of a few events, stores of its own, and the question whether they are right."""

    patch: pytest.MonkeyPatch
    analytics: Analytics
    sabotaged: bool
    log: Sequence[LogRecord] = field(default_factory=lambda: orders(EVENTS))

    def without(self, piece: Piece) -> None:
        """Take a piece out, where this is the run without it."""
        if self.sabotaged:
            piece(self.patch)

    def judge(self, *, exact: bool, seen: object = None) -> None:
        """All is right as it is; without the piece it is not."""
        assert exact is not self.sabotaged, seen

    @property
    def settings(self) -> AnalyticsSettings:
        variables: dict[str, Any] = {**self.analytics.environ}
        return AnalyticsSettings(**variables)

    @asynccontextmanager
    async def sink(self, name: WorkerName) -> AsyncIterator[Sink]:
        """A worker's sink on its store, prepared; its letters stay in memory."""
        async with open_sink(name, self.settings, Progress()) as sink:
            if isinstance(sink, AggregatesSink):
                letters = KeptLetters()
                sink.letters_of = lambda source, epoch: letters
            await sink.prepare({ORDERS: TopicState("id", 1)})
            yield sink

    async def open(self, sink: Sink) -> PartitionSink:
        return await sink.open(SOURCE, LogRange(0, len(self.log)))

    def batch(self, start: int, end: int) -> Batch:
        return Batch(SOURCE, start, end, self.log[start:end], generation=1)

    def counts_are_exact(self) -> bool:
        return self.analytics.counts() == naive_counts(one.value or b"" for one in self.log)

    def archive_is_exact(self) -> bool:
        """By `shopstream archive verify`, and by its lines against the log."""
        environ = self.analytics.environ
        bucket = S3Bucket(s3_client(environ), environ["ARCHIVE_BUCKET_NAME"], RuntimeError)
        report = Check(bucket, [ORDERS], []).run(lambda _: None)
        return report.holds and sum(chain.records for chain in report.chains) == len(self.log)


def orders(number: int) -> list[LogRecord]:
    """Orders of one hour, which so add to the same few items, at the offsets 0, 1, 2 and so on."""
    bodies = [order_body(f"order-{n}", "s", [("p", 1, 500 + n)]) for n in range(number)]
    made = [event("order.paid", body, subject=body["id"], seller="s") for body in bodies]
    return [record_of(one, offset) for offset, one in enumerate(made)]


@pytest.fixture
def trial(
    components: LocalComponents,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    sabotaged: bool,
) -> Trial:
    return Trial(monkeypatch, Analytics.without_log(components, tmp_path), sabotaged)


# Checkpoints and aggregates


@with_and_without
def test_a_zombie_cannot_set_a_checkpoint_back(trial: Trial) -> None:
    """Protocol rule 19: it would fall behind what retention keeps, and no lag would tell."""
    trial.without(without.checkpoint_condition)

    async def run() -> int | None:
        async with trial.sink("aggregates") as sink:
            zombie, heir = await trial.open(sink), await trial.open(sink)
            await heir.write(trial.batch(0, EVENTS))
            await zombie.write(trial.batch(0, 5))
            assert isinstance(heir, PartitionAggregates)
            return await heir.checkpoints.read(SOURCE, "id")

    stands = asyncio.run(run())
    trial.judge(exact=stands == EVENTS, seen=stands)
    assert trial.counts_are_exact()


@with_and_without
def test_a_writer_does_not_move_a_checkpoint_over_what_another_has_still_to_write(
    trial: Trial,
) -> None:
    """Protocol rule 19: somebody set it back and emptied the table; what was in it comes again."""
    trial.without(without.checkpoint_condition)
    environ = trial.analytics.environ

    async def run() -> None:
        async with trial.sink("recent") as sink:
            early = await trial.open(sink)
            await early.write(trial.batch(0, 3))
            forgotten: Any = sink
            key = {"pk": {"S": f"analytics-recent#{ORDERS}#id#0"}}
            await forgotten.client.delete_item(
                TableName=environ["SHOPSTREAM_CHECKPOINTS_TABLE_NAME"], Key=key
            )
            for event_id in trial.analytics.recent_ids():
                await forgotten.client.delete_item(
                    TableName=environ["RECENT_EVENTS_TABLE_NAME"], Key={"eventId": {"S": event_id}}
                )
            with suppress(CheckpointGap):
                await early.write(trial.batch(3, EVENTS))
            successor = await trial.open(sink)
            await successor.write(trial.batch(successor.durable, EVENTS))

    asyncio.run(run())
    wanted = sorted(json.loads(one.value or b"")["id"] for one in trial.log)
    found = trial.analytics.recent_ids()
    trial.judge(exact=found == wanted, seen=found)


@with_and_without
def test_a_checkpoint_moves_only_after_the_items(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protocol rule 19: what a checkpoint has passed is never read again."""
    trial.without(without.checkpoint_after_the_items)

    async def run() -> None:
        async with trial.sink("aggregates") as sink:
            dying: Any = await trial.open(sink)
            with monkeypatch.context() as away:
                away.setattr(type(dying.store), "apply", _unavailable)
                with pytest.raises(SinkUnavailable):
                    await dying.write(trial.batch(0, EVENTS))
            heir = await trial.open(sink)
            await heir.write(trial.batch(heir.durable, EVENTS))

    asyncio.run(run())
    trial.judge(exact=trial.counts_are_exact())


async def _unavailable(*_: object) -> None:
    raise SinkUnavailable("away")


@with_and_without
def test_what_an_item_has_merged_is_not_merged_again(trial: Trial) -> None:
    """Protocol rule 20: a zombie brings the same events once more."""
    trial.without(without.upto_condition)

    async def run() -> None:
        async with trial.sink("aggregates") as sink:
            zombie, heir = await trial.open(sink), await trial.open(sink)
            await heir.write(trial.batch(0, EVENTS))
            await zombie.write(trial.batch(0, EVENTS))

    asyncio.run(run())
    trial.judge(exact=trial.counts_are_exact())


@with_and_without
def test_of_a_refused_update_what_is_beyond_the_old_item_is_still_merged(trial: Trial) -> None:
    """Protocol rule 20: a repetition after a crash has other borders."""
    trial.without(without.trim_by_the_old_item)

    async def run() -> None:
        async with trial.sink("aggregates") as sink:
            died, heir = await trial.open(sink), await trial.open(sink)
            await died.write(trial.batch(0, 5))
            await heir.write(trial.batch(0, EVENTS))

    asyncio.run(run())
    trial.judge(exact=trial.counts_are_exact())


@with_and_without
def test_a_batch_that_does_not_follow_the_one_before_ends_the_worker(trial: Trial) -> None:
    """Protocol rule 15: positions that do not chain are records that were skipped."""
    trial.without(without.position_chain)

    async def run() -> None:
        async with trial.sink("aggregates") as sink:
            for batches in ([(0, 3), (5, EVENTS)], [(0, 0)]):
                lanes = Lanes(sink, Progress())
                position = (await lanes.open({SOURCE: LogRange(0, EVENTS)}))[SOURCE]
                lanes.start_generation(1)
                # A worker that ended is followed by one that reads on at the checkpoint.
                for start, end in batches if len(batches) > 1 else [(position, EVENTS)]:
                    lanes.offer(trial.batch(start, end))
                    await _until(lambda end=end, lanes=lanes: _settled(lanes, end))  # type: ignore[misc]  # bound by default
                await lanes.close(timeout_seconds=1)

    asyncio.run(run())
    trial.judge(exact=trial.counts_are_exact())


def _settled(lanes: Lanes, end: int) -> bool:
    return lanes.failed.done() or lanes.durable(SOURCE) == end


async def _until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not check():  # noqa: ASYNC110 - a deadline poll
            await asyncio.sleep(0.005)


@with_and_without
def test_giving_up_a_partition_does_not_wait_for_a_store_that_hangs(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protocol rule 17: a store that hangs must not hold up a rebalance of the whole group."""
    trial.without(without.bound_of_a_revoke)

    async def run() -> bool:
        async with trial.sink("aggregates") as sink:
            lanes = Lanes(sink, Progress())
            await lanes.open({SOURCE: LogRange(0, EVENTS)})
            lanes.start_generation(1)
            called, never = asyncio.Event(), asyncio.Event()

            async def hang(*_: object) -> None:
                called.set()
                await never.wait()

            monkeypatch.setattr(PartitionAggregates, "write", hang)
            lanes.offer(trial.batch(0, EVENTS))
            await called.wait()
            giving_up = asyncio.create_task(lanes.close(timeout_seconds=0.1))
            done, _ = await asyncio.wait([giving_up], timeout=3.0)
            # Else the task would never end.
            for task in lanes._tasks.values():
                task.cancel()
            await giving_up
            return bool(done)

    trial.judge(exact=asyncio.run(run()))


@with_and_without
def test_of_two_rebuilds_only_the_one_that_knows_what_it_replaces_is_swapped_in(
    trial: Trial,
) -> None:
    """The slower one would take back what workers have merged into the other since."""
    trial.without(without.condition_of_the_pointer)

    async def run() -> None:
        async with trial.sink("aggregates"):
            pass

    asyncio.run(run())
    tables = Tables.of(trial.settings)
    first, second = tables.begin(), tables.begin()
    tables.complete(first)
    tables.complete(second)
    assert tables.use(first, instead_of=0)
    tables.use(second, instead_of=0)
    trial.judge(exact=tables.current() == first)


# The archive's chain


@with_and_without
def test_an_object_of_the_chain_is_never_replaced(trial: Trial) -> None:
    """Protocol rule 23: a zombie stores its shorter file under the same key."""
    trial.without(without.if_none_match)

    async def run() -> None:
        async with trial.sink("archive") as sink:
            zombie, heir = await trial.open(sink), await trial.open(sink)
            await zombie.write(trial.batch(0, 5))
            await heir.write(trial.batch(0, 6))
            await heir.flush()
            await zombie.flush()
            await heir.write(trial.batch(6, EVENTS))
            await heir.flush()

    asyncio.run(run())
    trial.judge(exact=trial.archive_is_exact())


@with_and_without
def test_a_writer_that_was_second_continues_at_the_next_of_the_object_that_is_there(
    trial: Trial,
) -> None:
    """Protocol rule 23: whoever was first may have had a shorter file."""
    trial.without(without.next_of_the_object_that_is_there)

    async def run() -> None:
        async with trial.sink("archive") as sink:
            died, heir = await trial.open(sink), await trial.open(sink)
            await died.write(trial.batch(0, 5))
            await died.flush()
            await heir.write(trial.batch(0, EVENTS))
            await heir.flush()

    asyncio.run(run())
    trial.judge(exact=trial.archive_is_exact())


@with_and_without
def test_a_writer_passes_over_what_a_rival_has_stored_beyond_its_own_file(trial: Trial) -> None:
    """Protocol rule 19, trim: it still reads on from where it stood."""
    trial.without(without.trim_below_the_chain)

    async def run() -> None:
        async with trial.sink("archive") as sink:
            zombie, heir = await trial.open(sink), await trial.open(sink)
            await zombie.write(trial.batch(0, 3))
            await heir.write(trial.batch(0, 6))
            await heir.flush()
            await zombie.flush()
            await zombie.write(trial.batch(3, EVENTS))
            await zombie.flush()
            assert isinstance(zombie, PartitionArchive)

    asyncio.run(run())
    trial.judge(exact=trial.archive_is_exact())


# The engine on the broker


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of one partition, with a group that is to read it."""

    brokers: str
    name: str
    group: str
    made: Producer

    @property
    def source(self) -> Source:
        return Source(self.name, 0)

    def send(self, values: Sequence[bytes], *, abort: bool = False) -> None:
        """One transaction; its marker takes an offset."""
        self.made.begin_transaction()
        for value in values:
            self.made.produce(self.name, value=value, partition=0)
        if abort:
            self.made.flush()
            self.made.abort_transaction()
        else:
            self.made.commit_transaction()

    def committed(self) -> int:
        """What an operator's tool shows; negative without a commit."""
        reader = Consumer(KafkaConnection(self.brokers, "tests").consumer(self.group))
        try:
            return int(reader.committed([TopicPartition(self.name, 0)], timeout=10)[0].offset)
        finally:
            reader.close()


@pytest.fixture
def topic(components: LocalComponents) -> Topic:
    brokers = components.kafka_brokers
    return Topic(brokers, new_topic(brokers, 1), f"g-{uuid4()}", producer(brokers))


@with_and_without
def test_aborted_records_are_never_read(trial: Trial, topic: Topic) -> None:
    """Protocol rule 18: they are of transactions that never were."""
    trial.without(without.read_committed)
    topic.send([b"a", b"b"], abort=True)
    topic.send([b"c"])
    offsets: dict[Source, list[int]] = {}
    sink = NotingSink(offsets=offsets)

    async def run() -> None:
        async with engine(topic.brokers, (topic.name,), sink, topic.group) as running:
            await running.until(lambda: 3 in offsets.get(topic.source, ()), "the last record")

    asyncio.run(run())
    trial.judge(exact=offsets == {topic.source: [3]}, seen=offsets)


@with_and_without
def test_who_gets_a_partition_reads_on_from_the_sink_s_checkpoint(
    trial: Trial, topic: Topic
) -> None:
    """Protocol rule 19: the group's own offset may be behind it, or have been reset."""
    trial.without(without.seek_to_the_checkpoint)
    topic.send([b"a", b"b", b"c", b"d"])
    offsets: dict[Source, list[int]] = {}
    sink = NotingSink(offsets=offsets, positions={topic.source: 2})

    async def run() -> None:
        async with engine(topic.brokers, (topic.name,), sink, topic.group) as running:
            await _until(lambda: running.lanes.failed.done() or sink.records)

    asyncio.run(run())
    trial.judge(exact=offsets == {topic.source: [2, 3]}, seen=offsets)


@with_and_without
def test_the_group_s_offset_is_never_ahead_of_the_sink(trial: Trial, topic: Topic) -> None:
    """Protocol rule 16: an operator would read lag 0 of what is stored nowhere."""
    trial.without(without.commit_after_the_sink)
    topic.send([b"a", b"b"])
    sink = NotingSink(away=True)

    async def run() -> int:
        async with engine(topic.brokers, (topic.name,), sink, topic.group) as running:
            await running.until(lambda: sink.tries > 1, "it is tried")
            await running.app.consumer.commit()
            return await asyncio.to_thread(topic.committed)

    committed = asyncio.run(run())
    trial.judge(exact=committed <= 0, seen=committed)


# Dead letters


@dataclass(slots=True)
class Poison:
    """Records that nobody can read, in a partition that no other test has."""

    brokers: str
    source: Source

    def letters(self) -> PartitionLetters:
        """One worker's."""
        return PartitionLetters(KafkaConnection(self.brokers, "tests"), self.source, Progress())

    def letter(self, offset: int) -> Letter:
        record = LogRecord(*self.source, offset, 0, b"k", b"no json", [])
        return Letter(record, "malformed", "no json")

    def on_log(self) -> Counter[int]:
        """How many letters each offset has."""
        mine = (dict(one.headers) for one in letters_of(self.brokers))
        number = str(self.source.partition).encode()
        return Counter(
            int(headers["dlq_offset"] or b"")
            for headers in mine
            if headers.get("dlq_partition") == number
        )


@pytest.fixture
def poison(components: LocalComponents) -> Poison:
    ensure_topics(components.kafka_brokers)
    return Poison(components.kafka_brokers, Source(ORDERS, uuid4().int % 10**9))


@with_and_without
def test_a_letter_that_was_sent_before_a_crash_is_found_and_not_sent_again(
    trial: Trial, poison: Poison
) -> None:
    """Protocol rule 21: the checkpoint stands before the record when its worker dies."""
    trial.without(without.letters_past_the_checkpoint)

    async def run() -> None:
        await poison.letters().send([poison.letter(3)], since=0)
        await poison.letters().send([poison.letter(3), poison.letter(4)], since=0)

    asyncio.run(run())
    trial.judge(exact=poison.on_log() == {3: 1, 4: 1}, seen=poison.on_log())


@with_and_without
def test_letters_are_read_only_when_nothing_is_open_below_them(
    trial: Trial, poison: Poison
) -> None:
    """Protocol rules 21 and 7: another partition's open transaction hides what is there."""
    trial.without(without.end_of_the_letters)

    async def run() -> None:
        other = await asyncio.to_thread(_open_transaction, poison.brokers)
        await poison.letters().send([poison.letter(3)], since=0)
        again = asyncio.create_task(poison.letters().send([poison.letter(3)], since=0))
        if trial.sabotaged:
            await again
        await asyncio.to_thread(other.abort_transaction, 30)
        await again

    asyncio.run(run())
    trial.judge(exact=poison.on_log() == {3: 1}, seen=poison.on_log())


def _open_transaction(brokers: str) -> Producer:
    """On the letters' topic, below all that is written meanwhile."""
    settings = KafkaConnection(brokers, "other").transactional_producer(f"other-{uuid4()}")
    other = Producer({**settings, "transaction.timeout.ms": OPEN_MS_MAX})
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(DEAD_LETTER, b"x")
    assert other.flush(30) == 0
    return other


@with_and_without
def test_a_zombie_s_letters_are_fenced_by_its_heir(trial: Trial, poison: Poison) -> None:
    """Protocol rule 21: it holds a producer from before, and what it knew then."""
    trial.without(without.fencing_of_letters)

    async def run() -> None:
        zombie, heir = poison.letters(), poison.letters()
        await zombie.send([poison.letter(1)], since=0)
        await heir.send([poison.letter(2)], since=0)
        with suppress(LettersFenced):
            await zombie.send([poison.letter(2)], since=0)

    asyncio.run(run())
    trial.judge(exact=poison.on_log() == {1: 1, 2: 1}, seen=poison.on_log())


# Ids of streams


@pytest.mark.parametrize("sabotaged", [False, True], ids=["whole", "without"])
@pytest.mark.parametrize(
    "piece", [without.component_wise_maximum, without.attaching_below_every_component]
)
def test_an_id_is_compared_in_every_component(
    piece: Piece, monkeypatch: pytest.MonkeyPatch, *, sabotaged: bool
) -> None:
    """Protocol rule 25: replicas have read the partitions in different orders."""
    if sabotaged:
        piece(monkeypatch)
    exact = True
    for seed in range(12):
        try:
            got, there = simulate(hop(seed))
        except AssertionError:
            # An id that stands before what its client never got.
            exact = False
        else:
            exact &= sorted(got) == sorted(there)
    assert exact is not sabotaged
