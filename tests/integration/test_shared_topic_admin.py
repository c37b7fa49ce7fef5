"""Topics on a real broker against the file."""

import gc
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from tests.support.components import LocalComponents
from tests.support.system import wait_until

from shopstream_notifications.broker import Broker
from shopstream_shared import topics
from shopstream_shared.kafka import KafkaConnection, topic_ids, topic_states
from shopstream_shared.topic_admin import TopicMismatch, ensure_topics
from shopstream_shared.topics import TopicSpec, load_topics


def fresh_specs() -> list[TopicSpec]:
    """The local topics of the file under names of this test's own."""
    suffix = uuid.uuid4().hex[:8]
    return [replace(spec, name=f"{spec.name}-{suffix}") for spec in load_topics("local").values()]


def admin_of(brokers: str) -> AdminClient:
    return AdminClient(KafkaConnection(brokers, "test").admin())


def takes_topics(admin: AdminClient) -> bool:
    try:
        ensure_topics(admin, fresh_specs())
    except KafkaException:
        return False
    return True


def test_topics_are_created_once_and_found_right_ever_after(components: LocalComponents) -> None:
    admin = admin_of(components.kafka_brokers)
    specs = fresh_specs()

    ensure_topics(admin, specs)
    made = topic_ids(admin, tuple(spec.name for spec in specs))
    ensure_topics(admin, specs)

    assert topic_ids(admin, tuple(spec.name for spec in specs)) == made
    assert len(set(made.values())) == len(specs)


def ask_shared(brokers: str, names: list[str], missing: str) -> Callable[[], bool]:
    admin = admin_of(brokers)
    return lambda: topic_states(admin, [*names, missing]).keys() == set(names)


def ask_stream(brokers: str, names: list[str], missing: str) -> Callable[[], bool]:
    """As the canary asks."""
    broker = Broker(KafkaConnection(brokers, "test"))
    return lambda: all(map(broker.exists, names)) and not broker.exists(missing)


@pytest.mark.parametrize("asking", [ask_shared, ask_stream])
def test_a_question_about_a_missing_topic_leaves_nothing_for_the_collector(
    components: LocalComponents, asking: Callable[[str, list[str], str], Callable[[], bool]]
) -> None:
    """The relay asks every second, for ever; what it left was megabytes between two collections.

    Here the answers come late, as they do from a broker: the library then still needs its futures.
    """
    specs = fresh_specs()
    ensure_topics(admin_of(components.kafka_brokers), specs)
    names = [spec.name for spec in specs]
    holds = asking(components.kafka_brokers, names, f"missing-{names[0]}")
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(one, Future) for one in gc.get_objects())
        for _ in range(5):
            assert holds()
        assert sum(isinstance(one, Future) for one in gc.get_objects()) == before
    finally:
        gc.enable()


def test_creators_that_race_all_succeed(components: LocalComponents) -> None:
    brokers = components.kafka_brokers
    specs = fresh_specs()

    with ThreadPoolExecutor(4) as pool:
        races = [pool.submit(ensure_topics, admin_of(brokers), specs) for _ in range(4)]

    for race in races:
        race.result()


def test_a_broker_that_falls_silent_for_a_while_is_asked_again(components: LocalComponents) -> None:
    silences: list[str] = []

    class Silenced(AdminClient):
        """The broker stands still from the first request for settings until the second."""

        def describe_configs(self, *arguments: Any, **options: Any) -> Any:
            (components.resume if silences else components.pause)("kafka")
            silences.append("resumed" if silences else "paused")
            return super().describe_configs(*arguments, **options)

    try:
        ensure_topics(
            Silenced(KafkaConnection(components.kafka_brokers, "test").admin()), fresh_specs()
        )
    finally:
        components.resume("kafka")
        # Its controller may have found it dead meanwhile, and takes a moment to let it in again.
        admin = admin_of(components.kafka_brokers)
        wait_until(lambda: takes_topics(admin), "the broker is let in again")
    assert silences == ["paused", "resumed"]


def test_every_difference_is_named_and_nothing_is_altered(components: LocalComponents) -> None:
    admin = admin_of(components.kafka_brokers)
    spec = fresh_specs()[0]
    ensure_topics(admin, [spec])

    wanted = replace(spec, partitions=4, replication=2, retention_ms=1_000, compacted=True)
    for _ in range(2):
        with pytest.raises(TopicMismatch) as caught:
            ensure_topics(admin, [wanted])
        assert caught.value.differences == (
            f"{spec.name}: 3 partitions, topics.toml says 4",
            f"{spec.name}: replication 1, topics.toml says 2",
            f"{spec.name}: cleanup.policy is delete, topics.toml says compact",
            f"{spec.name}: retention.ms is {spec.retention_ms}, topics.toml says 1000",
        )


def test_a_topic_that_the_broker_refuses_is_an_error(components: LocalComponents) -> None:
    """One broker cannot hold three replicas."""
    with pytest.raises(KafkaException):
        ensure_topics(
            admin_of(components.kafka_brokers), [replace(fresh_specs()[0], replication=3)]
        )


def test_a_broker_with_a_smaller_largest_time_limit_gets_its_own(
    components: LocalComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Redpanda refuses Kafka's largest value, so Kafka refuses one below 0."""
    admin = admin_of(components.kafka_brokers)
    spec = fresh_specs()[0]

    monkeypatch.setattr(topics, "TIMESTAMP_AFTER_MAX_MS", -5)
    ensure_topics(admin, [spec])
    monkeypatch.undo()

    resource = ConfigResource(ResourceType.TOPIC, spec.name)
    entries = admin.describe_configs([resource])[resource].result(timeout=10)
    assert entries["message.timestamp.after.max.ms"].value == str((2**63 - 1) // 1_000_000)
    ensure_topics(admin, [spec])


def test_a_topic_that_bounds_the_time_of_its_records_is_a_mismatch(
    components: LocalComponents,
) -> None:
    """Protocol rule 10: an hour, Kafka's default, stops the relay after a jump of its clock."""
    admin = admin_of(components.kafka_brokers)
    spec = fresh_specs()[0]
    hour = {**spec.config, "message.timestamp.after.max.ms": "3600000"}
    made = admin.create_topics([NewTopic(spec.name, 3, 1, config=hour)])
    made[spec.name].result(timeout=10)

    with pytest.raises(TopicMismatch, match=r"message\.timestamp\.after\.max\.ms is 3600000"):
        ensure_topics(admin, [spec])


def run_command(**variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "shopstream_shared.topic_admin"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_makes_the_topics_of_the_file(components: LocalComponents) -> None:
    for _ in range(2):
        done = run_command(KAFKA_BROKERS=components.kafka_brokers)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "6 topics agree with topics.toml (local)\n"


def test_the_command_says_in_one_line_what_is_wrong() -> None:
    away = run_command(KAFKA_BROKERS="127.0.0.1:1")
    wrong = run_command(KAFKA_BROKERS="127.0.0.1:1", SHOPSTREAM_PROFILE="moon")

    assert away.returncode == 1
    assert away.stderr.startswith("error: topics at 127.0.0.1:1: ")
    assert away.stderr.count("\n") == 1
    assert wrong.returncode == 2
    assert wrong.stderr == "error: SHOPSTREAM_PROFILE: Input should be 'local' or 'production'\n"
