"""Records that nobody can read, at every place of a batch; and letters that stand (ADR 39)."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from tests.support.analytics import Analytics, ensure_topics, letters_of, short
from tests.support.analytics_events import (
    DAY,
    Counts,
    LogRecord,
    event,
    inventory_body,
    naive_counts,
    record_of,
)
from tests.support.components import LocalComponents

from shopstream_analytics.aggregates import keys
from shopstream_analytics.aggregates import sink as aggregates
from shopstream_analytics.aggregates.sink import AggregatesSink, Letter, PartitionAggregates
from shopstream_analytics.archive.line import value_of
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.dead_letters import LettersFenced, PartitionLetters
from shopstream_analytics.events import DecodedEvent, read_event
from shopstream_analytics.progress import Progress
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import LogRange, PartitionSink, Sink, TopicState
from shopstream_analytics.worker.sinks import WORKERS, WorkerName, open_sink
from shopstream_shared.events.codec import UnknownType
from shopstream_shared.topics import INVENTORY

POISON: Final = b"no json"
LAYOUTS: Final = {
    "start": "x....",
    "middle": "..x..",
    "end": "....x",
    "several": "xx.x.xx",
    "only": "xxx",
}


@dataclass(frozen=True, slots=True)
class Stores:
    """Tables and a bucket; ``source`` is a partition that no other test has."""

    analytics: Analytics
    source: Source

    @asynccontextmanager
    async def sink(self, name: WorkerName) -> AsyncIterator[Sink]:
        """A worker's sink, prepared."""
        variables: dict[str, Any] = {**self.analytics.environ}
        async with open_sink(name, AnalyticsSettings(**variables), Progress()) as sink:
            await sink.prepare({INVENTORY: TopicState("id", 1)})
            yield sink

    async def open(self, sink: Sink, end: int) -> PartitionSink:
        return await sink.open(self.source, LogRange(0, end))

    def letters(self) -> Counter[int]:
        """How many letters each offset has."""
        number = str(self.source.partition).encode()
        heads = (dict(one.headers) for one in letters_of(self.analytics.environ["KAFKA_BROKERS"]))
        return Counter(
            int(head["dlq_offset"] or b"") for head in heads if head.get("dlq_partition") == number
        )

    def counts(self) -> Counts:
        """The aggregates of this partition."""
        counts: Counts = {}
        for item in self.analytics.aggregates():
            key, source = keys.parse(item["pk"]["S"], item["sk"]["S"])
            if source == self.source:
                names = (name for name in item if name not in {"pk", "sk", "upto"})
                counts[short(key)] = Counter({name: int(item[name]["N"]) for name in names})
        return counts


@pytest.fixture(scope="module")
def analytics(session_components: LocalComponents) -> Analytics:
    ensure_topics(session_components.kafka_brokers)
    return Analytics.without_log(session_components, Path())


@pytest.fixture
def stores(components: LocalComponents, analytics: Analytics) -> Stores:
    components.up("kafka", "dynamodb", "minio")
    return Stores(analytics, Source(INVENTORY, uuid4().int % 10**9))


def record(stores: Stores, offset: int, *, minute: int = 0) -> LogRecord:
    """An event of a product of its own."""
    name = f"p{offset}"
    body, at = inventory_body(name, "s", 1), DAY + timedelta(minutes=minute)
    made = event("inventory.updated", body, subject=name, seller="s", at=at)
    return record_of(made, offset, stores.source.partition)


def batch(stores: Stores, records: Sequence[LogRecord], end: int | None = None) -> Batch:
    start = records[0].offset
    return Batch(stores.source, start, end or records[-1].offset + 1, records)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_poison_anywhere_in_a_batch_is_set_aside_once_and_holds_up_no_sink(
    stores: Stores, layout: str
) -> None:
    records = [record(stores, offset) for offset in range(len(LAYOUTS[layout]))]
    for offset, kind in enumerate(LAYOUTS[layout]):
        if kind == "x":
            records[offset] = records[offset]._replace(value=POISON)
    good = [one.value or b"" for one in records if one.value != POISON]

    async def run() -> None:
        for name in WORKERS:
            async with stores.sink(name) as sink:
                # Again, as after a crash before the checkpoint: nothing of it is done twice.
                first, again = [await stores.open(sink, len(records)) for _ in range(2)]
                for partition in (first, again):
                    await partition.write(batch(stores, records))
                    await partition.flush()
                    assert partition.durable == len(records)

    asyncio.run(run())
    assert stores.letters() == {
        offset: 1 for offset, kind in enumerate(LAYOUTS[layout]) if kind == "x"
    }
    assert stores.counts() == naive_counts(good)
    ids = {json.loads(value)["id"] for value in good}
    assert ids <= set(stores.analytics.recent_ids())
    chain = stores.analytics.chain(*stores.source, start=0)
    assert [value_of(line) for one in chain for line in one.lines] == [r.value for r in records]


def cannot_read(offset: int) -> Callable[[bytes | None], DecodedEvent]:
    """An earlier version's reading, to which the event at this offset is of an unknown type."""

    def read(value: bytes | None) -> DecodedEvent:
        found = read_event(value)
        if found.envelope.subject == f"p{offset}":
            raise UnknownType("p")
        return found

    return read


async def crash_after_the_letter(stores: Stores, sink: Sink, given: Batch, offset: int) -> None:
    """An earlier version sends its letter, and dies before anything is counted."""
    worker = await stores.open(sink, given.next)
    assert isinstance(worker, PartitionAggregates)

    async def die(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr(aggregates, "read_event", cannot_read(offset))
        earlier.setattr(aggregates, "merge", die)
        with pytest.raises(asyncio.CancelledError):
            await worker.write(given)


def test_a_record_with_a_letter_is_passed_over_also_by_a_version_that_can_read_it(
    stores: Stores,
) -> None:
    """Else a replay of the letter counts it again."""
    # Had it been judged, it would have been ahead, and have made the last one late.
    minutes = (0, 90, 20, 95)
    records = [record(stores, offset, minute=minute) for offset, minute in enumerate(minutes)]

    async def run() -> None:
        async with stores.sink("aggregates") as sink:
            await crash_after_the_letter(stores, sink, batch(stores, records[:3]), 1)
            heir = await stores.open(sink, 4)
            # Other borders, and what comes later is judged like all else.
            await heir.write(batch(stores, records[:2]))
            await heir.write(batch(stores, records[2:]))

    asyncio.run(run())
    assert stores.letters() == {1: 1}
    assert stores.counts() == naive_counts(one.value or b"" for one in records if one.offset != 1)


def test_a_letter_below_the_checkpoint_or_of_another_life_holds_nothing_back(
    stores: Stores,
) -> None:
    records = [record(stores, offset) for offset in range(4)]

    async def run() -> None:
        async with stores.sink("aggregates") as sink:
            assert isinstance(sink, AggregatesSink)
            former = sink.letters_of(stores.source, 1)
            await former.send([Letter(records[2], "malformed", "no json")], since=0)
            await crash_after_the_letter(stores, sink, batch(stores, records[:2]), 1)
            assert await sink.letters_of(stores.source, 0).standing(1) == {1}
            assert await sink.letters_of(stores.source, 0).standing(2) == frozenset()
            heir = await stores.open(sink, 4)
            await heir.write(batch(stores, records))

    asyncio.run(run())
    assert stores.counts() == naive_counts(one.value or b"" for one in records if one.offset != 1)


def test_who_was_fenced_sends_no_letter_and_does_not_fence_its_heir(stores: Stores) -> None:
    poison = [record(stores, offset)._replace(value=POISON) for offset in range(3)]
    letters = [Letter(one, "malformed", "no json") for one in poison]

    async def run() -> None:
        async with stores.sink("aggregates") as sink:
            assert isinstance(sink, AggregatesSink)
            zombie, heir = (sink.letters_of(stores.source, 0) for _ in range(2))
            assert isinstance(zombie, PartitionLetters)
            await zombie.send(letters[:1], since=0)
            await heir.send(letters[:2], since=0)
            for _ in range(2):
                with pytest.raises(LettersFenced):
                    await zombie.send(letters, since=0)
            await heir.send(letters, since=0)

    asyncio.run(run())
    assert stores.letters() == {0: 1, 1: 1, 2: 1}
