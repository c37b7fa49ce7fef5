"""The reader's numbers from what the worker's own merge wrote to the real DynamoDB Local."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

from tests.support.analytics_events import (
    DAY,
    Shop,
    event,
    inventory_body,
    naive_counts,
    naive_sums,
    record_of,
)
from tests.support.analytics_reads import KeptLetters
from tests.support.components import LocalComponents

from shopstream_analytics.aggregates.derived import ProductSales, TopBy
from shopstream_analytics.aggregates.generations import Generations
from shopstream_analytics.aggregates.merge import Round, merge
from shopstream_analytics.aggregates.reader import AggregatesReader, Window
from shopstream_analytics.aggregates.sink import GROUP, AggregatesSink, Letters
from shopstream_analytics.aggregates.store import DynamoAggregates
from shopstream_analytics.aggregates.timeliness import PartitionTime, mark
from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import LogRange, TopicState
from shopstream_analytics.tables import aggregates_table, checkpoints_table, ensure_table
from shopstream_shared.crash import CrashPoints
from shopstream_shared.events.codec import decode
from shopstream_shared.topics import INVENTORY, STREAM_TOPICS

PARTITIONS = 3
BY: tuple[tuple[TopBy, str | None], ...] = (("units", None), ("revenue", "USD"))


def log_of(seed: int) -> dict[Source, list[bytes]]:
    """Each order's events in the partition of its subject, as a key would place them."""
    shop = Shop(seed)
    found: dict[Source, list[bytes]] = {}
    for one in (one for _ in range(40) for one in shop.order_life()):
        source = Source(one.topic, len(one.subject) % PARTITIONS)
        found.setdefault(source, []).append(one.value)
    return found


async def written(
    settings: AnalyticsSettings,
    log: dict[Source, list[bytes]],
    read: Callable[[AggregatesReader], Awaitable[None]],
) -> None:
    async with open_dynamo(settings) as client:
        await ensure_table(client, aggregates_table(settings.aggregates_table))
        await ensure_table(client, checkpoints_table(settings.checkpoints_table))
        checkpoints = Checkpoints.of(client, settings.checkpoints_table, GROUP)
        topics = {topic: TopicState(f"id-{topic}", PARTITIONS) for topic in STREAM_TOPICS}
        await checkpoints.check_epochs(topics)
        store = DynamoAggregates(client, settings.aggregates_table)
        for source, values in log.items():
            events = [(number, decode(value)) for number, value in enumerate(values)]
            marks, _ = mark(events, PartitionTime())
            await merge(store, source, Round(events, marks))
        generations = Generations(client, settings.aggregates_table, settings.checkpoints_table)
        await read(AggregatesReader(client, generations))


def settings_of(components: LocalComponents) -> AnalyticsSettings:
    name = uuid4().hex[:12]
    variables: dict[str, Any] = {
        **components.environ_of("dynamodb"),
        "SHOPSTREAM_AGGREGATES_TABLE_NAME": f"Aggregates-{name}",
        "SHOPSTREAM_CHECKPOINTS_TABLE_NAME": f"Checkpoints-{name}",
    }
    return AnalyticsSettings(**variables)


def sold(naive: dict[tuple[str, ...], Counter[str]], seller: str, day: str) -> list[ProductSales]:
    return [
        ProductSales(
            key[4],
            counters["orders"],
            counters["units"],
            {
                name.removeprefix("revenueMinor#"): amount
                for name, amount in counters.items()
                if name.startswith("revenueMinor#")
            },
        )
        for key, counters in naive.items()
        if key[:4] == ("sellerProduct", seller, "day", f"{day}T00:00:00Z")
    ]


def greatest(
    products: Sequence[ProductSales], by: TopBy, currency: str | None
) -> list[ProductSales]:
    if by == "units":
        return sorted(products, key=lambda p: (-p.units, p.product_id))
    wanted = [p for p in products if currency in p.revenue_minor]
    return sorted(wanted, key=lambda p: (-p.revenue_minor[str(currency)], p.product_id))


def test_top_products_funnel_order_value_and_timeliness_are_what_the_events_add_up_to(
    components: LocalComponents,
) -> None:
    log = log_of(seed=51)
    naive = naive_sums(log.values())

    async def read(reader: AggregatesReader) -> None:
        days = sorted({key[3][:10] for key in naive if key[0] == "sellerProduct"})
        for seller in ("seller-0", "seller-1", "nobody"):
            for day in days:
                wanted = sold(naive, seller, day)
                for by, currency in BY:
                    answer = await reader.top_products(
                        seller, date.fromisoformat(day), by, currency, 5
                    )
                    assert answer.products == greatest(wanted, by, currency)[:5]
        series = await reader.read("all", "event-types", "hour", Window())
        for start, bucket in series.buckets.items():
            assert bucket == naive["all", "event-types", "hour", start]
        assert series.totals()["lateEvents"] > 0
        assert series.totals()["aheadEvents"] > 0
        too_long = await reader.top_products("s" * 901, date(2026, 11, 21), "units", None, 5)
        assert too_long.products == []

    asyncio.run(written(settings_of(components), log, read))


async def never_asked(source: Source, first: int, position: int, letters: Letters) -> PartitionTime:
    raise AssertionError


def test_a_worker_that_goes_on_finds_late_what_its_forerunner_would_have(
    components: LocalComponents,
) -> None:
    settings, source = settings_of(components), Source(INVENTORY, 0)
    # The third is ahead, which the fourth shows; the fifth is late by what the fourth said.
    minutes = (0, 50, 1_500, 100, 10)
    made = [
        event(
            "inventory.updated",
            inventory_body("p", "s", 1),
            subject="p",
            seller="s",
            at=DAY + timedelta(minutes=minute),
        )
        for minute in minutes
    ]

    async def run() -> dict[str, dict[str, Any]]:
        async with open_dynamo(settings) as client:
            sink = AggregatesSink(
                client=client,
                generations=Generations(
                    client, settings.aggregates_table, settings.checkpoints_table
                ),
                letters_of=lambda _, __: KeptLetters(),
                recount=never_asked,
                crash=CrashPoints(None),
                topics={},
            )
            await sink.prepare({INVENTORY: TopicState("id", 1)})
            for number, one in enumerate(made):
                worker = await sink.open(source, LogRange(0, len(made)))
                await worker.write(Batch(source, number, number + 1, [record_of(one, number)]))
            return {
                item["sk"]["S"]: item
                for item in (await client.scan(TableName=settings.aggregates_table))["Items"]
                if item["pk"]["S"].startswith("all#")
            }

    items = asyncio.run(run())
    naive = naive_counts(one.value for one in made)
    assert naive["all", "event-types", "day", "2026-11-21T00:00:00Z"]["lateEvents"] == 1
    for key, counters in naive.items():
        if key[0] == "all":
            item = items[f"{key[2]}#{key[3]}"]
            assert {name: int(item[name]["N"]) for name in counters} == counters
