"""Late and ahead stay exact when other code moves checkpoints without noting partition time."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.support.analytics import Analytics, producer, read_log, send
from tests.support.analytics_events import DAY, LogRecord, event, inventory_body, naive_counts
from tests.support.analytics_reads import KeptLetters
from tests.support.components import LocalComponents

from shopstream_analytics.aggregates.generations import Generations
from shopstream_analytics.aggregates.sink import GROUP, AggregatesSink, Letter
from shopstream_analytics.aggregates.timeliness import PartitionTime
from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.recount import LogRecount
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import LogRange, SinkUnavailable, TopicState
from shopstream_shared.crash import CrashPoints
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import INVENTORY

#: Minutes after midnight: the last of each row is late or shows one that was ahead.
MINUTES = [0, 50, 100, 10, 1_500, 120, 5, 190, 3_000, 4_000, 130, 20, 260, 140]
EVENTS = [
    event(
        "inventory.updated",
        inventory_body("p", "s", 1),
        subject="p",
        seller="s",
        at=DAY + timedelta(minutes=minute),
    )
    for minute in MINUTES
]


class _MoveFails(Checkpoints):
    """A crash after the items, before the checkpoint."""

    async def move(self, *_: Any, **__: Any) -> None:
        raise SinkUnavailable("cut")


async def _old_code_moves(client: Any, settings: AnalyticsSettings, position: int) -> None:
    """As a release from before the note does: the position alone."""
    found = (await client.scan(TableName=settings.checkpoints_table))["Items"]
    (key,) = (item["pk"] for item in found if item["pk"]["S"].startswith(f"{GROUP}#{INVENTORY}#id"))
    await client.update_item(
        TableName=settings.checkpoints_table,
        Key={"pk": key},
        UpdateExpression="SET #next = :to",
        ExpressionAttributeNames={"#next": "next"},
        ExpressionAttributeValues={":to": {"N": str(position)}},
    )


async def _written(
    settings: AnalyticsSettings, records: list[LogRecord], random: Random
) -> Mapping[str, Mapping[str, int]]:
    """Counters of all events by granularity and start, after workers of both versions in turn."""
    source = Source(INVENTORY, records[0].partition)
    first, end = records[0].offset, records[-1].offset + 1
    async with open_dynamo(settings) as client:
        sink = AggregatesSink(
            client=client,
            generations=Generations(client, settings.aggregates_table, settings.checkpoints_table),
            letters_of=lambda _, __: KeptLetters(),
            recount=LogRecount(KafkaConnection(settings.kafka_brokers, "tests")),
            crash=CrashPoints(None),
            topics={},
        )
        await sink.prepare({INVENTORY: TopicState("id", 3)})
        position = first
        while position < end:
            worker = await sink.open(source, LogRange(first, end))
            assert worker.durable == position
            following = min(end, position + random.randrange(1, 4))
            mine = [one for one in records if position <= one.offset < following]
            batch = Batch(source, position, following, mine)
            kind = random.choice(["new", "crash", "old"]) if position > first else "new"
            if kind == "new":
                await worker.write(batch)
            else:
                real = worker.checkpoints
                worker.checkpoints = _MoveFails(real.client, real.table, real.consumer, real.clock)
                with pytest.raises(SinkUnavailable, match="cut"):
                    await worker.write(batch)
            if kind == "old":
                await _old_code_moves(client, settings, following)
            position = position if kind == "crash" else following
        found = (await client.scan(TableName=settings.aggregates_table))["Items"]
    return {
        item["sk"]["S"]: {
            name: int(value["N"])
            for name, value in item.items()
            if name not in {"pk", "sk", "upto"}
        }
        for item in found
        if item["pk"]["S"].startswith("all#")
    }


def test_late_and_ahead_are_exact_with_two_code_versions_in_turn_and_crashes(
    components: LocalComponents, tmp_path: Path
) -> None:
    analytics = Analytics.fresh(components, tmp_path)
    variables: dict[str, Any] = dict(analytics.environ)
    settings = AnalyticsSettings(**variables)
    send(producer(settings.kafka_brokers), EVENTS)
    records = read_log(settings.kafka_brokers, (INVENTORY,))
    assert len(records) == len(EVENTS)
    found = asyncio.run(_written(settings, records, Random(7)))
    naive = {
        f"{key[2]}#{key[3]}": dict(counters)
        for key, counters in naive_counts(one.value for one in EVENTS).items()
        if key[0] == "all"
    }
    assert found == naive
    sums = sum((Counter(one) for key, one in naive.items() if key.startswith("hour")), Counter())
    assert sums["lateEvents"] >= 3
    assert sums["aheadEvents"] >= 3


def test_a_recount_of_a_log_without_events_begins_anew(
    components: LocalComponents, tmp_path: Path
) -> None:
    analytics = Analytics.fresh(components, tmp_path)
    brokers = analytics.environ["KAFKA_BROKERS"]
    recount = LogRecount(KafkaConnection(brokers, "tests"))
    found = asyncio.run(recount(Source(INVENTORY, 0), 5, 5, KeptLetters()))
    assert found == PartitionTime()


def test_a_recount_looks_past_records_with_a_letter_whoever_can_read_them_by_now(
    components: LocalComponents, tmp_path: Path
) -> None:
    brokers = Analytics.fresh(components, tmp_path).environ["KAFKA_BROKERS"]
    send(producer(brokers), EVENTS[:3])
    records = read_log(brokers, (INVENTORY,))
    last, end = records[-1], records[-1].offset + 1
    source, recount = Source(*last[:2]), LogRecount(KafkaConnection(brokers, "tests"))
    for letters, minute in (
        (KeptLetters([Letter(last, "unknown_type", "")]), 50),
        (KeptLetters(), 100),
    ):
        found = asyncio.run(recount(source, records[0].offset, end, letters))
        assert found.at == DAY + timedelta(minutes=minute)


def test_a_recount_while_the_broker_is_away_is_tried_again_like_any_outage() -> None:
    away = KafkaConnection("127.0.0.1:1", "tests")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shopstream_shared.log_range.SILENCE_SECONDS_MAX", 0.5)
        with pytest.raises(SinkUnavailable, match="broker"):
            asyncio.run(LogRecount(away)(Source(INVENTORY, 0), 0, 5, KeptLetters()))
