"""What the consumers' other safety pieces are for: of the engine, dead letters and stream ids.

As in test_analytics_sabotage.py each test runs twice, as it is and with one piece patched out.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.property.test_stream_resume import hop
from tests.support import sabotage_consumers as without
from tests.support.analytics import (
    ensure_topics,
    letters_of,
    producer,
)
from tests.support.analytics_engine import NotingSink, engine, new_topic
from tests.support.analytics_events import LogRecord
from tests.support.components import LocalComponents
from tests.support.stream import simulate
from tests.support.trial import Piece, Trial, until, with_and_without

from shopstream_analytics.aggregates.sink import Letter
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dead_letters import LettersFenced, PartitionLetters
from shopstream_analytics.progress import Progress
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import DEAD_LETTER, ORDERS

#: Longer than any test: who leaves this transaction open is the test, not the broker.
OPEN_MS_MAX: Final = 300_000


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
            await until(lambda: running.lanes.failed.done() or sink.records)

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
