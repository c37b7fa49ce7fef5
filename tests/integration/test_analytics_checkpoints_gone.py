"""A running worker whose checkpoint was deleted ends; it never makes one where it happens to be."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest
from tests.support.analytics_events import event, inventory_body, record_of
from tests.support.analytics_reads import KeptLetters
from tests.support.components import LocalComponents

from shopstream_analytics.aggregates.generations import Generations
from shopstream_analytics.aggregates.sink import AggregatesSink
from shopstream_analytics.checkpoints import CheckpointGap, Checkpoints
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.recent import RecentSink
from shopstream_analytics.recent_index import RecentIndexes
from shopstream_analytics.recount import LogRecount
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import LogRange, PartitionSink, Sink, SinkMoved, TopicState
from shopstream_shared.crash import CrashPoints
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import INVENTORY

SOURCE = Source(INVENTORY, 0)
TOPICS = {INVENTORY: TopicState("id", 1)}
RECORDS = [
    record_of(event("inventory.updated", inventory_body("p", "s", 1), subject="p", seller="s"), n)
    for n in range(3)
]
MakeSink = Callable[[Any, AnalyticsSettings], Sink]


def aggregates(client: Any, settings: AnalyticsSettings) -> AggregatesSink:
    return AggregatesSink(
        client=client,
        generations=Generations(client, settings.aggregates_table, settings.checkpoints_table),
        letters_of=lambda _, __: KeptLetters(),
        recount=LogRecount(KafkaConnection(settings.kafka_brokers, "tests")),
        crash=CrashPoints(None),
        topics={},
    )


def recent(client: Any, settings: AnalyticsSettings) -> RecentSink:
    return RecentSink(
        client=client,
        table=settings.recent_events_table,
        indexes=RecentIndexes(1),
        checkpoints=Checkpoints.of(client, settings.checkpoints_table, "analytics-recent"),
        crash=CrashPoints(None),
        topics={},
    )


SINKS = pytest.mark.parametrize("make", [aggregates, recent])


def run(
    components: LocalComponents, use: Callable[[Any, AnalyticsSettings], Awaitable[None]]
) -> None:
    name = uuid4().hex[:12]
    variables: dict[str, Any] = {
        **components.environ_of("dynamodb"),
        "RECENT_EVENTS_TABLE_NAME": f"Recent-{name}",
        "SHOPSTREAM_AGGREGATES_TABLE_NAME": f"Aggregates-{name}",
        "SHOPSTREAM_CHECKPOINTS_TABLE_NAME": f"Checkpoints-{name}",
    }
    settings = AnalyticsSettings(**variables)

    async def opened() -> None:
        async with open_dynamo(settings) as client:
            await use(client, settings)

    asyncio.run(opened())


async def at_work(sink: Sink) -> PartitionSink:
    """A worker's partition, which has taken in the first two records."""
    await sink.prepare(TOPICS)
    partition = await sink.open(SOURCE, LogRange(0, len(RECORDS)))
    await partition.write(batch(0, 1))
    await partition.write(batch(1, 2))
    return partition


def batch(start: int, end: int) -> Batch:
    return Batch(SOURCE, start, end, RECORDS[start:end])


async def delete(client: Any, *tables: str) -> None:
    for table in tables:
        await client.delete_table(TableName=table)


def tables_of(settings: AnalyticsSettings) -> Sequence[str]:
    return (
        settings.checkpoints_table,
        settings.aggregates_table,
        settings.recent_events_table,
    )


async def delete_all(client: Any, settings: AnalyticsSettings) -> None:
    there = (await client.list_tables())["TableNames"]
    await delete(client, *(table for table in tables_of(settings) if table in there))


@SINKS
def test_a_checkpoint_that_is_gone_is_not_made_again_by_the_worker_that_had_it(
    components: LocalComponents, make: MakeSink
) -> None:
    async def use(client: Any, settings: AnalyticsSettings) -> None:
        sink = make(client, settings)
        partition = await at_work(sink)
        await delete(client, settings.checkpoints_table)
        await sink.prepare(TOPICS)
        with pytest.raises(CheckpointGap, match="checkpoint is gone"):
            await partition.write(batch(2, 3))
        again = make(client, settings)
        await again.prepare(TOPICS)
        assert (await again.open(SOURCE, LogRange(0, len(RECORDS)))).durable == 0

    run(components, use)


@SINKS
def test_a_worker_ends_when_another_has_made_its_deleted_tables_again(
    components: LocalComponents, make: MakeSink
) -> None:
    async def use(client: Any, settings: AnalyticsSettings) -> None:
        sink = make(client, settings)
        await at_work(sink)
        await delete_all(client, settings)
        await make(client, settings).prepare(TOPICS)
        with pytest.raises(SinkMoved, match="made again"):
            await sink.prepare(TOPICS)

    run(components, use)


def test_after_a_pause_nothing_is_merged_behind_a_checkpoint_that_is_gone(
    components: LocalComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopstream_analytics.aggregates.sink.UNSEEN_SECONDS_MAX", 0.0)

    async def use(client: Any, settings: AnalyticsSettings) -> None:
        partition = await at_work(aggregates(client, settings))
        await delete_all(client, settings)
        other = aggregates(client, settings)
        await other.prepare(TOPICS)
        with pytest.raises(CheckpointGap):
            await partition.write(batch(2, 3))
        # An item with upto = 2 would refuse the first two events from now on.
        successor = await other.open(SOURCE, LogRange(0, len(RECORDS)))
        await successor.write(batch(0, 3))
        found = (await client.scan(TableName=settings.aggregates_table))["Items"]
        assert {item["events"]["N"] for item in found if "events" in item} == {"3"}

    run(components, use)
