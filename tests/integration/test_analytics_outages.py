"""The whole service while parts of its stores fail: what is seen, what goes on, how it ends."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import pytest
from rich.console import Console
from tests.support.analytics import (
    Analytics,
    Service,
    dynamo_client,
    producer,
    s3_client,
    send,
    sinks_target,
    wait_until,
)
from tests.support.analytics_events import event, inventory_body
from tests.support.components import LocalComponents
from tests.support.store_faults import Fault, StoreProxy, late, says

from shopstream_analytics.worker.sinks import WORKERS
from shopstream_stack import sinks

FOR_EVER: Final = 1_000_000_000
#: All that the workers ask of DynamoDB once they run.
DYNAMO: Final = frozenset(
    {"BatchWriteItem", "TransactWriteItems", "UpdateItem", "GetItem", "DescribeTable"}
)
BUCKET: Final = frozenset({"PUT object", "PUT hint", "GET hint", "HEAD bucket", "GET bucket"})


@dataclass(frozen=True, slots=True)
class Broken:
    """The running service behind a proxy a store."""

    analytics: Analytics
    service: Service
    dynamo: StoreProxy
    s3: StoreProxy

    def send(self, seller: str, count: int = 5) -> None:
        made = [
            event(
                "inventory.updated",
                inventory_body("p", seller, 1),
                subject="p",
                seller=seller,
                at=datetime.now(UTC),
            )
            for _ in range(count)
        ]
        send(producer(self.analytics.environ["KAFKA_BROKERS"]), made)

    def counted(self, seller: str) -> int:
        """As the aggregates say."""
        answer = self.service.client.get(f"/aggregates/sellers/{seller}")
        return 0 if answer.status_code != 200 else int(answer.json()["totals"]["events"])

    def recent(self, seller: str) -> int:
        """Items in RecentEvents, asked past the proxy."""
        items = self.analytics.scan("RECENT_EVENTS_TABLE_NAME")
        return Counter(item["sellerId"]["S"] for item in items)[seller]

    def archived(self, seller: str) -> int:
        """Lines in the bucket, asked past the proxy."""
        chains = [
            self.analytics.chain("shop.inventory", partition, start)
            for partition, start in self.starts().items()
        ]
        mark = f'"sellerId":"{seller}"'.encode()
        return sum(
            mark in line.replace(b" ", b"")
            for chain in chains
            for stored in chain
            for line in stored.lines
        )

    def starts(self) -> dict[int, int]:
        """Where each partition's chain begins."""
        bucket = self.analytics.environ["ARCHIVE_BUCKET_NAME"]
        client = s3_client(self.analytics.environ)
        found: dict[int, int] = {}
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix="events/topic=shop.inventory/"
        )
        for page in pages:
            for entry in page.get("Contents", ()):
                partition = int(entry["Key"].rsplit("+", 2)[1])
                metadata = client.head_object(Bucket=bucket, Key=entry["Key"])["Metadata"]
                start = int(metadata["start"])
                found[partition] = min(start, found.get(partition, start))
        return found

    def faults(self, worker: str, kind: str) -> int:
        text = self.service.client.get("/metrics").text
        series = f'shopstream_analytics_store_faults_total{{kind="{kind}",worker="{worker}"}}'
        found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
        return 0 if found is None else int(float(found[1]))

    def heal(self) -> None:
        self.dynamo.faults = []
        self.s3.faults = []


@pytest.fixture(scope="module")
def broken(
    session_components: LocalComponents, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broken]:
    analytics = Analytics.fresh(session_components, tmp_path_factory.mktemp("outages"))
    with running(analytics) as found:
        yield found


@contextmanager
def running(analytics: Analytics) -> Iterator[Broken]:
    dynamo = StoreProxy(analytics.environ["DYNAMO_ENDPOINT"])
    s3 = StoreProxy(analytics.environ["MINIO_ENDPOINT"])
    with (
        dynamo.running(),
        s3.running(),
        analytics.service(DYNAMO_ENDPOINT=dynamo.url, MINIO_ENDPOINT=s3.url) as service,
    ):
        service.wait_healthy()
        yield Broken(analytics, service, dynamo, s3)


def test_only_the_sinks_whose_writes_are_throttled_wait_and_the_others_go_on(
    broken: Broken,
) -> None:
    variables = broken.analytics.environ
    throttled = says(400, "ProvisionedThroughputExceededException")
    table = variables["RECENT_EVENTS_TABLE_NAME"]
    broken.dynamo.faults = [Fault(throttled, frozenset({"BatchWriteItem"}), FOR_EVER, table)]
    broken.s3.faults = [Fault(says(503, "SlowDown"), frozenset({"PUT object"}), FOR_EVER)]
    broken.send("partly")
    wait_until(lambda: broken.counted("partly") == 5, "the aggregates go on")
    wait_until(lambda: "throttled" in broken.service.message("recent"), "recent says so", 60)
    wait_until(lambda: "throttled" in broken.service.message("archive"), "archive says so", 60)
    assert "behind" in broken.service.message("aggregates")
    answer = broken.service.health()
    assert answer is not None
    assert answer.status_code == 503
    assert broken.service.client.get("/health/live").status_code == 200
    for worker in ("recent", "archive"):
        wait_until(partial(broken.faults, worker, "throttled"), f"{worker} counts it")
    assert broken.faults("aggregates", "throttled") == 0
    broken.heal()
    broken.service.wait_healthy()
    wait_until(lambda: broken.recent("partly") == 5, "recent has all")
    wait_until(lambda: broken.archived("partly") == 5, "the archive has all")
    assert broken.counted("partly") == 5


def test_a_slow_bucket_keeps_nothing_from_the_other_sinks(broken: Broken) -> None:
    broken.s3.faults = [Fault(late(3.0), frozenset({"PUT object"}), FOR_EVER)]
    broken.send("slowly")
    wait_until(lambda: broken.counted("slowly") == 5, "counted")
    wait_until(lambda: broken.recent("slowly") == 5, "recent")
    wait_until(lambda: broken.archived("slowly") == 5, "archived, late")
    broken.heal()


def test_refused_credentials_are_named_in_health_and_end_no_worker(broken: Broken) -> None:
    pids = broken.service.worker_pids()
    broken.dynamo.faults = [Fault(says(400, "ExpiredTokenException"), DYNAMO, FOR_EVER)]
    broken.s3.faults = [Fault(says(403, "InvalidAccessKeyId"), BUCKET, FOR_EVER)]
    broken.send("expired")
    for worker, variable in (
        ("aggregates", "AWS_ACCESS_KEY_ID"),
        ("recent", "AWS_ACCESS_KEY_ID"),
        ("archive", "MINIO_ACCESS_KEY"),
    ):
        told = partial(broken.service.message, worker)
        wait_until(partial(says_credentials, told), f"{worker} says so", 60)
        assert variable in told()
        assert broken.analytics.environ["MINIO_SECRET_KEY"] not in told()
    broken.heal()
    broken.service.wait_healthy()
    wait_until(lambda: broken.counted("expired") == 5, "nothing was lost of the aggregates")
    wait_until(lambda: broken.recent("expired") == 5, "nor of recent events")
    wait_until(lambda: broken.archived("expired") == 5, "nor of the archive")
    assert broken.service.worker_pids() == pids


def test_a_table_or_bucket_that_is_deleted_under_its_worker_halts_it_and_is_not_made_again(
    broken: Broken,
) -> None:
    variables = broken.analytics.environ
    client = dynamo_client(variables)
    aggregates, recent = (
        variables[name] for name in ("SHOPSTREAM_AGGREGATES_TABLE_NAME", "RECENT_EVENTS_TABLE_NAME")
    )
    pids = broken.service.worker_pids()
    # The one is gone, the other made again by somebody.
    described = client.describe_table(TableName=recent)["Table"]
    client.delete_table(TableName=aggregates)
    client.delete_table(TableName=recent)
    client.create_table(
        TableName=recent,
        KeySchema=described["KeySchema"],
        AttributeDefinitions=[{"AttributeName": "eventId", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    empty_bucket(broken.analytics)
    for worker in WORKERS:
        wait_until(partial(lost, broken, worker), f"{worker} says so")
    assert aggregates not in client.list_tables()["TableNames"]
    halted = 'shopstream_analytics_worker_halted{reason="store_lost",worker="recent"} 1.0'
    assert halted in broken.service.client.get("/metrics").text
    assert broken.service.worker_pids() == pids
    assert broken.service.client.get("/health/live").status_code == 200

    # As the manual says: what the log still holds makes both whole again.
    sinks.restart(sinks_target(broken.analytics), "aggregates", Console(quiet=True))
    with broken.analytics.worker("aggregates"), broken.analytics.worker("archive"):
        for seller in ("partly", "slowly", "expired"):
            wait_until(partial(is_five, broken.counted, seller), "counted again")
            wait_until(partial(is_five, broken.archived, seller), "archived again")


def is_five(count: Callable[[str], int], seller: str) -> bool:
    return count(seller) == 5


def says_credentials(told: Callable[[], str]) -> bool:
    return "credentials" in told()


def lost(broken: Broken, worker: str) -> bool:
    return "store_lost" in broken.service.message(worker)


def empty_bucket(analytics: Analytics) -> None:
    """Delete the bucket with all that is in it."""
    client, bucket = s3_client(analytics.environ), analytics.environ["ARCHIVE_BUCKET_NAME"]
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for version in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            client.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
    client.delete_bucket(Bucket=bucket)
