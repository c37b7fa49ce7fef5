"""`shopstream sinks`: what an operator sees of a sink that the log has left behind, and can do."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from rich.console import Console
from tests.support.analytics import (
    Analytics,
    dynamo_client,
    empty_topics,
    producer,
    s3_client,
    send,
    sinks_target,
)
from tests.support.analytics_events import Shop
from tests.support.components import LocalComponents

from shopstream_analytics.identity import identity_of, note_key
from shopstream_shared.archive.keys import Link, Place, object_key
from shopstream_stack import sinks
from shopstream_stack.errors import StackError
from shopstream_stack.ports import reserved_ports
from shopstream_stack.sinks import Partition, SinkName


class Behind:
    """Stores whose sinks stand one offset before the log's first, at the fullest partition."""

    def __init__(self, analytics: Analytics) -> None:
        self.target = sinks_target(analytics)
        self.dynamo: Any = dynamo_client(analytics.environ)
        self.s3: Any = s3_client(analytics.environ)
        self.console = Console(record=True, width=200)
        brokers = analytics.environ["KAFKA_BROKERS"]
        shop, made = Shop(seed=61), producer(brokers)
        for _ in range(3):
            send(made, shop.order_life())
        empty_topics(brokers)
        self.partition = max(sinks.partitions_of(self.target), key=lambda one: one.first)
        self.make(self.target.checkpoints_table)
        self.s3.create_bucket(Bucket=self.target.archive_bucket)
        for sink in ("aggregates", "recent"):
            self.plant(f"analytics-{sink}#{self.place}", next=self.partition.first - 1)
        hint = {"next": self.partition.first - 1, "topicId": self.partition.topic_id, "key": "k"}
        self.s3.put_object(
            Bucket=self.target.archive_bucket, Key=self.hint, Body=json.dumps(hint).encode()
        )

    def make(self, table: str) -> None:
        self.dynamo.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    @property
    def place(self) -> str:
        part = self.partition
        return f"{part.topic}#{part.topic_id}#{part.number}"

    @property
    def hint(self) -> str:
        return f"_positions/{self.partition.topic}/{self.partition.number}"

    def plant(self, key: str, **numbers: int) -> None:
        values = {name: {"N": str(number)} for name, number in numbers.items()}
        self.dynamo.put_item(
            TableName=self.target.checkpoints_table, Item={"pk": {"S": key}, **values}
        )

    def archived(self, start: int, following: int, *, hour: int = 0) -> None:
        """An object of the archive's chain, its hint left as it is."""
        part = self.partition
        link = Link(start, following, start, following - 1, 1, "0" * 64, part.topic_id)
        self.s3.put_object(
            Bucket=self.target.archive_bucket,
            Key=object_key(Place(part.topic, part.number), start, (500_000 + hour) * 3_600_000),
            Metadata=link.metadata(),
        )

    def stands(self, sink: SinkName) -> int | None:
        return sinks.Store(self.target, self.dynamo, self.s3).standing(sink, self.partition).next


@pytest.fixture
def behind(components: LocalComponents, tmp_path: Path) -> Iterator[Behind]:
    found = Behind(Analytics.fresh(components, tmp_path))
    with closing(found.dynamo), closing(found.s3):
        yield found


def test_a_sink_behind_the_log_is_shown_skipped_and_counted_without_the_others(
    behind: Behind,
) -> None:
    assert sinks.ls(behind.target, behind.console) == 1
    first = behind.partition.first
    assert sinks.lost(behind.target) == dict.fromkeys(sinks.SINKS, 1)
    place = behind.partition.topic, behind.partition.number
    nexts = [sinks.nexts(behind.target, sink)[place] for sink in sinks.SINKS]
    assert nexts == [first - 1] * len(sinks.SINKS)
    assert sinks.skip(behind.target, "aggregates", behind.console) == 1
    assert (behind.stands("aggregates"), behind.stands("recent")) == (first, first - 1)
    assert sinks.skip(behind.target, "archive", behind.console) == 1
    assert behind.stands("archive") == first
    said = behind.console.export_text()
    assert f"from {first - 1} to {first}, 1 offsets left out" in said
    assert sinks.skip(behind.target, "archive", behind.console) == 0
    assert "nowhere behind" in behind.console.export_text()
    assert sinks.lost(behind.target) == {"aggregates": 0, "recent": 1, "archive": 0}
    sinks.skip(behind.target, "recent", behind.console)
    assert sinks.ls(behind.target, behind.console) == 0


@pytest.mark.parametrize(
    ("store", "away", "shown"),
    [
        ("minio_endpoint", "archive: MinIO does not answer", {"aggregates", "recent"}),
        ("dynamo_endpoint", "recent: DynamoDB does not answer", {"archive"}),
    ],
)
def test_a_store_that_is_away_is_named_and_the_sinks_of_the_other_are_shown(
    behind: Behind, store: str, away: str, shown: set[str]
) -> None:
    for sink in sinks.SINKS:
        sinks.skip(behind.target, sink, behind.console)
    behind.console.export_text()
    with reserved_ports() as ports:
        moved: dict[str, Any] = {store: f"http://127.0.0.1:{ports.take()}"}
        target = replace(behind.target, **moved)
        assert sinks.ls(target, behind.console) == 1
    said = behind.console.export_text()
    assert away in said
    place = behind.partition.topic
    rows = {line.split()[1] for line in said.splitlines() if place in line}
    assert rows == shown


def test_a_table_or_bucket_that_is_gone_is_named(behind: Behind) -> None:
    for sink in sinks.SINKS:
        sinks.skip(behind.target, sink, behind.console)
    table = behind.target.recent_events_table
    behind.make(table)
    noted = identity_of(behind.dynamo.describe_table(TableName=table)["Table"])
    behind.dynamo.put_item(
        TableName=behind.target.checkpoints_table,
        Item={"pk": {"S": note_key("analytics-recent", table)}, "tableId": {"S": noted}},
    )
    assert sinks.ls(behind.target, behind.console) == 0
    behind.dynamo.delete_table(TableName=table)
    assert sinks.ls(behind.target, behind.console) == 1
    assert f"recent: the table {table} was deleted" in behind.console.export_text()
    behind.make(table)
    assert sinks.ls(behind.target, behind.console) == 1
    assert f"recent: the table {table} was made again" in behind.console.export_text()
    bucket = behind.target.archive_bucket
    behind.s3.delete_object(Bucket=bucket, Key=behind.hint)
    behind.s3.delete_bucket(Bucket=bucket)
    assert sinks.ls(behind.target, behind.console) == 1
    assert f"archive: the bucket {bucket} is not there" in behind.console.export_text()


def test_a_checkpoint_that_moved_meanwhile_is_left_alone(behind: Behind) -> None:
    store = sinks.Store(behind.target, behind.dynamo, behind.s3)
    seen = {sink: store.standing(sink, behind.partition) for sink in sinks.SINKS}
    behind.plant(f"analytics-recent#{behind.place}", next=behind.partition.first + 5)
    behind.s3.put_object(
        Bucket=behind.target.archive_bucket,
        Key=behind.hint,
        Body=json.dumps(
            {"next": behind.partition.first + 5, "topicId": behind.partition.topic_id}
        ).encode(),
    )
    for sink in ("recent", "archive"):
        with pytest.raises(ClientError):
            store.move(sink, seen[sink])
        assert behind.stands(sink) == behind.partition.first + 5


def test_a_hint_of_another_life_of_the_topic_is_nothing_to_skip(behind: Behind) -> None:
    hint = {"next": 0, "topicId": "another"}
    behind.s3.put_object(
        Bucket=behind.target.archive_bucket, Key=behind.hint, Body=json.dumps(hint).encode()
    )
    assert behind.stands("archive") is None
    assert sinks.skip(behind.target, "archive", behind.console) == 0


def test_a_restart_forgets_the_checkpoints_and_the_table_of_one_sink(behind: Behind) -> None:
    note = f"analytics-recent#table#{behind.target.recent_events_table}"
    behind.plant(note)
    sinks.restart(behind.target, "recent", behind.console)
    assert behind.stands("recent") is None
    assert behind.stands("aggregates") == behind.partition.first - 1
    found = behind.dynamo.get_item(
        TableName=behind.target.checkpoints_table, Key={"pk": {"S": note}}
    )
    assert "Item" not in found
    with pytest.raises(StackError, match="in its bucket"):
        sinks.restart(behind.target, "archive", behind.console)


def test_a_partition_without_a_checkpoint_has_lost_nothing() -> None:
    partition = Partition("shop.orders", "id", 0, 7, 9)
    assert sinks.Standing(partition, None).lost == 0
    assert sinks.Standing(partition, 7).lost == 0
    assert sinks.Standing(partition, 5).lost == 2


@pytest.mark.parametrize("hour", [0, -1], ids=["same hour", "clock went back"])
def test_what_a_writer_stored_before_it_died_is_neither_lost_nor_archived_twice(
    behind: Behind, hour: int
) -> None:
    first = behind.partition.first
    behind.archived(0, first - 1)
    behind.archived(first - 1, first + 2, hour=hour)
    assert behind.stands("archive") == first + 2
    assert sinks.skip(behind.target, "archive", behind.console) == 0
    assert "nowhere behind" in behind.console.export_text()


def test_a_chain_without_a_hint_that_the_log_has_left_behind_is_skipped(behind: Behind) -> None:
    first = behind.partition.first
    behind.s3.delete_object(Bucket=behind.target.archive_bucket, Key=behind.hint)
    assert behind.stands("archive") is None
    behind.archived(0, first - 1)
    assert behind.stands("archive") == first - 1
    assert sinks.skip(behind.target, "archive", behind.console) == 1
    assert behind.stands("archive") == first
