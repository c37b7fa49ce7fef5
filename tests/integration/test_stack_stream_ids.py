"""`shopstream stream-id`: well-formed ids that no replica can resume."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from tests.support.components import LocalComponents

from shopstream_shared.kafka import KafkaConnection, topic_ids
from shopstream_shared.stream_id import StreamPosition, epoch_of
from shopstream_shared.topic_admin import ensure_topics
from shopstream_shared.topics import STREAM_TOPICS, load_topics
from shopstream_stack.stream_ids import FUTURE_OFFSETS

COMMAND = str(Path(sys.executable).with_name("shopstream"))


def stream_id(brokers: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "stream-id", *words],
        env={"PATH": os.defpath, "KAFKA_BROKERS": brokers},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def epoch(components: LocalComponents) -> bytes:
    admin = AdminClient(KafkaConnection(components.kafka_brokers, "test").admin())
    ensure_topics(admin, load_topics("local").values())
    return epoch_of(topic_ids(admin, STREAM_TOPICS))


def test_a_future_id_is_of_these_topics_and_beyond_their_ends(
    components: LocalComponents, epoch: bytes
) -> None:
    position = StreamPosition.decode(stream_id(components.kafka_brokers, "--future").stdout.strip())
    assert position.epoch == epoch
    assert [len(vector) for vector in position.offsets] == [3, 3, 3]
    assert all(offset >= FUTURE_OFFSETS for _key, offset in position.items())


def test_an_evicted_id_is_of_these_topics_and_at_their_first_offsets(
    components: LocalComponents, epoch: bytes
) -> None:
    done = stream_id(components.kafka_brokers, "--evicted")
    position = StreamPosition.decode(done.stdout.strip())
    assert position.epoch == epoch
    assert {offset for _key, offset in position.items()} == {0}


def test_an_id_that_is_not_evicted_yet_says_so_beside_it() -> None:
    """The broker is this test's own: what others let it forget would change the answer."""
    with LocalComponents() as own:
        brokers = own.kafka_brokers
        admin = AdminClient(KafkaConnection(brokers, "test").admin())
        ensure_topics(admin, load_topics("local").values())
        fresh = stream_id(brokers, "--evicted")
        assert fresh.stderr.startswith("Nothing has been evicted yet")
        producer = Producer({"bootstrap.servers": brokers})
        producer.produce(STREAM_TOPICS[0], b"x", partition=0)
        producer.flush(30)
        gone = TopicPartition(STREAM_TOPICS[0], 0, 1)
        for future in admin.delete_records([gone]).values():
            future.result(30)
        trimmed = stream_id(brokers, "--evicted")
        assert (trimmed.returncode, trimmed.stderr) == (0, "")
        assert trimmed.stdout == fresh.stdout


def test_an_id_of_an_unknown_epoch_is_of_other_topics(
    components: LocalComponents, epoch: bytes
) -> None:
    text = stream_id(components.kafka_brokers, "--unknown-epoch").stdout.strip()
    assert StreamPosition.decode(text).epoch != epoch


def test_exactly_one_kind_is_asked_for(components: LocalComponents) -> None:
    done = stream_id(components.kafka_brokers, "--future", "--evicted")
    assert done.returncode == 2
    assert done.stderr == "Choose one of --future, --evicted, --unknown-epoch\n"


def test_a_broker_that_is_away_is_one_clear_line(components: LocalComponents) -> None:
    brokers = components.kafka_brokers
    components.stop("kafka")
    done = stream_id(brokers, "--future")
    assert done.returncode == 1
    assert done.stderr.startswith(f"The stream topics cannot be read from {brokers}")
    assert "Traceback" not in done.stderr
