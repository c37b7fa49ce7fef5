"""Kafka settings that the protocol rests on."""

from shopstream_shared.kafka import KafkaConnection

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
