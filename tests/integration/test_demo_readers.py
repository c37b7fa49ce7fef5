"""The demo's readers on the real components: they see what is committed, all of it, and no more."""

import contextlib
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
import zstandard
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from tests.support.components import LocalComponents
from tests.support.events import changed, golden
from tests.support.system import wait_until

from shopstream_shared.clock import epoch_ms
from shopstream_shared.events.codec import decode
from shopstream_shared.events.envelope import headers_of
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topic_admin import ensure_topics
from shopstream_shared.topics import load_topics
from shopstream_stack.demo.archive_reader import ArchiveReader
from shopstream_stack.demo.log_reader import LogReader
from shopstream_stack.demo.target import Target

OWN = "demo-readers"


def event(subject: str, sequence: int) -> bytes:
    return changed(golden("product.updated"), subject=subject, sequence=str(sequence), sellerid=OWN)


@pytest.fixture
def brokers(components: LocalComponents) -> str:
    connection = KafkaConnection(components.kafka_brokers, "test")
    ensure_topics(AdminClient(connection.admin()), list(load_topics("local").values()))

    def every_partition_has_its_leader() -> bool:
        with contextlib.suppress(KafkaException):
            return bool(LogReader(components.kafka_brokers).ends())
        return False

    wait_until(every_partition_has_its_leader, "leaders of topics made a moment ago")
    return components.kafka_brokers


def test_the_log_reader_sees_committed_events_from_where_the_log_stood(brokers: str) -> None:
    reader = LogReader(brokers)
    start = reader.ends()
    assert len(start) == 9
    producer = Producer(KafkaConnection(brokers, "test").transactional_producer("demo-readers"))
    producer.init_transactions(10)
    for subject, commit in (("kept", True), ("aborted", False), ("later", True)):
        producer.begin_transaction()
        for sequence in (1, 2):
            value = event(subject, sequence)
            around = decode(value)
            producer.produce(
                "shop.products",
                value,
                key=subject,
                headers=[(name, text) for name, text in headers_of(around.envelope)],
                timestamp=epoch_ms(around.time),
            )
        producer.produce("shop.products", b"not an event", key=subject)
        if commit:
            producer.commit_transaction(10)
        else:
            producer.flush(10)
            producer.abort_transaction(10)
    found = reader.read(start, lambda seen: seen.seller_id == OWN)
    assert sorted(entry.event.key for entry in found) == [
        ("shop.products", subject, sequence) for subject in ("kept", "later") for sequence in (1, 2)
    ]
    assert {entry.event.body for entry in found if entry.event.subject == "kept"} == {
        event("kept", 1),
        event("kept", 2),
    }
    assert [entry.faults for entry in found] == [()] * 4
    assert reader.read(reader.ends(), lambda _: True) == []
    assert set(reader.topic_ids()) == {"shop.products", "shop.orders", "shop.inventory"}


def line(offset: int, value: bytes) -> bytes:
    """An archive line: the event with what stood around it on the log."""
    around: dict[str, Any] = {"timestamp": 1, "key": None, "headers": []}
    if value != b"null":
        read = decode(value)
        headers = [[name, text.decode()] for name, text in headers_of(read.envelope)]
        around = {
            "timestamp": epoch_ms(read.time),
            "key": read.envelope.subject,
            "headers": headers,
        }
    head = {"topic": "shop.products", "partition": 0, "offset": offset, **around}
    return json.dumps(head)[:-1].encode() + b',"event":' + value + b"}\n"


def put(s3: Any, bucket: str, offsets: range, values: list[bytes], **wrong: str) -> None:
    """One archive object of shop.products, partition 0, as the archive writes it."""
    lines = [line(offset, value) for offset, value in zip(offsets, values, strict=True)]
    stored = zstandard.compress(b"".join(lines))
    metadata = {
        "start": str(offsets.start),
        "next": str(offsets.stop),
        "first": str(offsets[0]),
        "last": str(offsets[-1]),
        "count": str(len(offsets)),
        "sha256": hashlib.sha256(stored).hexdigest(),
        "topic-id": "t",
    }
    hour = "year=2026/month=11/day=21/hour=05"
    s3.put_object(
        Bucket=bucket,
        Key=f"events/topic=shop.products/{hour}/shop.products+0+{offsets.start:020}.jsonl.zst",
        Body=stored,
        Metadata={**metadata, **wrong},
    )


def test_the_archive_reader_walks_the_chain_from_where_the_log_stood(
    components: LocalComponents,
) -> None:
    bucket = "demo-readers"
    variables = {**components.environ_of("minio"), "ARCHIVE_BUCKET_NAME": bucket}
    services = dict.fromkeys(("api", "notifications", "analytics", "web"), "http://nowhere")
    s3 = boto3.client(
        "s3",
        endpoint_url=components.minio_endpoint,
        region_name="us-east-1",
        aws_access_key_id=variables["MINIO_ACCESS_KEY"],
        aws_secret_access_key=variables["MINIO_SECRET_KEY"],
    )
    s3.create_bucket(Bucket=bucket)
    ids = dict.fromkeys(("shop.products", "shop.orders", "shop.inventory"), "t")
    reader = ArchiveReader(Target.of(services, variables), ids)
    start = {(topic, 0): 0 for topic in ids} | {("shop.products", 0): 3}
    since = datetime(2026, 11, 21, 5, 30, tzinfo=UTC)

    put(s3, bucket, range(2), [event("before", n) for n in (5, 6)])
    put(s3, bucket, range(2, 3), [event("before", 7)])
    put(s3, bucket, range(3, 5), [event("ours", 1), b"null"])
    put(s3, bucket, range(5, 6), [event("ours", 2)])
    reading = reader.read(start, since, lambda seen: seen.seller_id == OWN)
    assert [seen.key[1:] for seen in reading.events] == [("ours", 1), ("ours", 2)]
    assert (reading.objects, reading.faults) == (2, ())
    assert reader.archived(start, since)["shop.products", 0] == 6

    put(s3, bucket, range(7, 8), [event("ours", 3)], **{"sha256": "0", "topic-id": "old"})
    faults = " ".join(reader.read(start, since, lambda _: True).faults)
    assert "sha256" in faults
    assert "expected topic-id t, seen old" in faults
    assert "expected start 6, seen start 7" in faults
