"""The stores' own promises that the protocols rest on, and what halts a worker."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.support.analytics import (
    Analytics,
    dynamo_client,
    empty_topics,
    producer,
    read_log,
    s3_client,
    send,
    sinks_target,
    wait_until,
)
from tests.support.analytics_events import Counts, Shop, naive_counts
from tests.support.components import LocalComponents

from shopstream_analytics.archive.chain import Link
from shopstream_analytics.archive.store import BucketAtMinio, open_chain
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_shared.topics import ORDERS
from shopstream_stack import sinks


@pytest.fixture
def analytics(components: LocalComponents, tmp_path: Path) -> Analytics:
    return Analytics.fresh(components, tmp_path)


def settings_of(analytics: Analytics) -> AnalyticsSettings:
    variables: dict[str, Any] = {**analytics.environ}
    return AnalyticsSettings(**variables)


def test_of_16_racing_writers_one_creates_the_object_and_all_others_see_whose_it_is(
    analytics: Analytics,
) -> None:
    settings = settings_of(analytics)

    async def race() -> list[Link | None]:
        await BucketAtMinio.of(settings)()
        async with open_chain(settings) as chain:
            links = [Link(0, number, 0, number, 1, f"{number}", "id") for number in range(16)]
            bodies = (f"{number}".encode() for number in range(16))
            return await asyncio.gather(
                *(chain.create("k", body, link) for body, link in zip(bodies, links, strict=True))
            )

    seen = asyncio.run(race())
    assert seen.count(None) == 1
    winner = seen.index(None)
    assert {link.next for link in seen if link is not None} == {winner}
    stored = s3_client(analytics.environ).get_object(Bucket=settings.archive_bucket, Key="k")
    assert stored["Body"].read() == f"{winner}".encode()


def test_the_bucket_is_versioned_and_its_lifecycle_ends_nothing_of_a_chain(
    analytics: Analytics,
) -> None:
    settings = settings_of(analytics)
    asyncio.run(BucketAtMinio.of(settings)())
    client = s3_client(analytics.environ)
    versioning = client.get_bucket_versioning(Bucket=settings.archive_bucket)
    assert versioning["Status"] == "Enabled"
    rules = client.get_bucket_lifecycle_configuration(Bucket=settings.archive_bucket)["Rules"]
    for rule in rules:
        assert "Expiration" not in rule
        if "NoncurrentVersionExpiration" in rule:
            assert rule["Filter"]["Prefix"] == "_positions/"


def test_the_recent_events_table_ends_its_items_by_their_ttl(analytics: Analytics) -> None:
    with analytics.worker("recent"):
        client = dynamo_client(analytics.environ)
        table = analytics.environ["RECENT_EVENTS_TABLE_NAME"]
        # A page of the list has a hundred tables, and other tests have made some.
        pages = client.get_paginator("list_tables").paginate
        wait_until(lambda: any(table in page["TableNames"] for page in pages()), "the table")
        wait_until(
            lambda: (
                client.describe_time_to_live(TableName=table)["TimeToLiveDescription"].get(
                    "AttributeName"
                )
                == "ttl"
            ),
            "its TTL",
        )


def test_a_topic_with_another_id_halts_the_worker_unhealthy(analytics: Analytics) -> None:
    with analytics.service() as service:
        service.wait_healthy()
        dynamo_client(analytics.environ).update_item(
            TableName=analytics.environ["SHOPSTREAM_CHECKPOINTS_TABLE_NAME"],
            Key={"pk": {"S": f"analytics-aggregates#{ORDERS}"}},
            UpdateExpression="SET topicId = :id",
            ExpressionAttributeValues={":id": {"S": "another"}},
        )
        pids = service.worker_pids()
        wait_until(lambda: "topic_recreated" in service.message("aggregates"), "halted")
        wait_until(lambda: (r := service.health()) is not None and r.status_code == 503, "503")
        # It waits for an operator; the others go on.
        assert service.worker_pids() == pids
        assert "behind" in service.message("recent")


def test_a_log_that_lost_what_is_needed_next_halts_the_worker_unhealthy(
    analytics: Analytics,
) -> None:
    brokers = analytics.environ["KAFKA_BROKERS"]
    made = producer(brokers)
    shop = Shop(seed=31)
    send(made, shop.order_life())
    with analytics.worker("aggregates"):
        wait_until(lambda: analytics.lag("analytics-aggregates") == 0, "caught up")
    for _ in range(5):
        send(made, shop.order_life())
    empty_topics(brokers)
    with analytics.service() as service:
        wait_until(lambda: "offset_out_of_range" in service.message("aggregates"), "halted")
    # An operator lets it go on at what is left.
    counted = analytics.counts()
    assert sinks.skip(sinks_target(analytics), "aggregates", Console(quiet=True)) > 0
    send(made, shop.order_life())
    with analytics.worker("aggregates"):
        wait_until(lambda: analytics.lag("analytics-aggregates") == 0, "caught up")
    left = naive_counts(record.value or b"" for record in read_log(brokers))
    now = analytics.counts()
    day = ("all", "event-types", "day")
    assert _events(now, day) == _events(counted, day) + _events(left, day)


def _events(counts: Counts, head: tuple[str, str, str]) -> int:
    return sum(bucket["events"] for key, bucket in counts.items() if key[:3] == head)
