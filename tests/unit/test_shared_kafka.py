"""Kafka settings that the protocol rests on."""

import gc
import weakref
from concurrent.futures import Future
from types import SimpleNamespace
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from shopstream_shared.kafka import NO_TOPIC_ID, KafkaConnection, topic_states
from shopstream_shared.topics import PRODUCTS

CONNECTION = KafkaConnection("localhost:9092", "example")


def test_the_partitioner_is_the_one_others_use() -> None:
    """Protocol rule 10: librdkafka's own default places most keys elsewhere than Java's."""
    assert CONNECTION.transactional_producer("tx")["partitioner"] == "murmur2_random"


def test_a_producer_is_transactional_and_waits_for_all() -> None:
    config = CONNECTION.transactional_producer("api-service-transaction")

    assert config["transactional.id"] == "api-service-transaction"
    assert config["acks"] == "all"
    assert config["message.timeout.ms"] <= config["transaction.timeout.ms"]


def test_a_consumer_sees_committed_records_only_and_commits_nothing_by_itself() -> None:
    config = CONNECTION.consumer("group")

    assert config["isolation.level"] == "read_committed"
    assert config["enable.auto.commit"] is False
    assert config["auto.offset.reset"] == "error"


def test_only_clients_that_are_polled_get_the_error_callback() -> None:
    """In a client that nobody polls, errors of a broker that is away would pile up."""
    seen: list[object] = []
    connection = KafkaConnection("localhost:9092", "example", log=seen.append)

    assert "error_cb" not in connection.admin()
    assert "error_cb" in connection.consumer("group")
    assert "error_cb" in connection.transactional_producer("tx")
    assert "error_cb" not in CONNECTION.consumer("group")


class _WithoutIds:
    """An admin client of a broker that knows no topic ids; there is no such broker to run."""

    def describe_topics(self, topics: object, request_timeout: float) -> dict[str, Future[object]]:
        future: Future[object] = Future()
        future.set_result(SimpleNamespace(topic_id=NO_TOPIC_ID, partitions=[1, 2, 3]))
        return {PRODUCTS: future}


def test_a_broker_that_gives_topics_no_ids_is_refused() -> None:
    """Protocol rule 13: a topic made again could not be told from the old one."""
    with pytest.raises(KafkaException, match=r"no id for topic shop\.products"):
        topic_states(cast("AdminClient", _WithoutIds()), [PRODUCTS])


class _WithoutTopic:
    """An admin client of a broker that has no such topic; ``asked`` is its last answer."""

    asked: "weakref.ref[Future[object]]"

    def describe_topics(self, topics: object, request_timeout: float) -> dict[str, Future[object]]:
        future: Future[object] = Future()
        future.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        self.asked = weakref.ref(future)
        return {PRODUCTS: future}


def test_a_question_about_a_missing_topic_leaves_nothing_for_the_collector() -> None:
    """The relay asks every second, for ever; what it left was megabytes between two collections."""
    admin = _WithoutTopic()
    gc.disable()
    try:
        assert topic_states(cast("AdminClient", admin), [PRODUCTS]) == {}
        assert admin.asked() is None
    finally:
        gc.enable()
