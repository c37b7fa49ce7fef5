"""The code and topics.toml say the same of the topics."""

import tomllib
from typing import Any, get_args

import pytest

from shopstream_shared.events.registry import EVENT_TYPES
from shopstream_shared.topics import (
    ALL_TOPICS,
    CANARY,
    DEAD_LETTER,
    INVENTORY,
    ORDERS,
    PRODUCTS,
    RELAY_PROGRESS,
    STREAM_TOPICS,
    Profile,
    load_topics,
    topics_toml,
)

DAY_MS = 24 * 3600 * 1000


@pytest.mark.parametrize("profile", get_args(Profile))
def test_the_file_names_exactly_the_topics_of_the_code(profile: Profile) -> None:
    specs = load_topics(profile)

    assert set(specs) == set(ALL_TOPICS)
    assert all(spec.key for spec in specs.values())
    assert [name for name, spec in specs.items() if spec.compacted] == [RELAY_PROGRESS]


def test_the_file_has_no_setting_that_the_code_does_not_read() -> None:
    tables: dict[str, dict[str, Any]] = tomllib.loads(topics_toml())["topics"]

    for table in tables.values():
        assert table.keys() - {"compacted", "max_message_bytes"} == {"key", *get_args(Profile)}
        for profile in get_args(Profile):
            assert table[profile].keys() == {"partitions", "replication", "retention_ms"}


def test_the_partitions_are_those_of_the_design() -> None:
    local = {name: spec.partitions for name, spec in load_topics("local").items()}
    production = load_topics("production")

    once = {DEAD_LETTER: 1, RELAY_PROGRESS: 1, CANARY: 1}
    assert local == {**dict.fromkeys(STREAM_TOPICS, 3), **once}
    shapes = [
        (production[name].partitions, production[name].retention_ms // DAY_MS)
        for name in (PRODUCTS, ORDERS, INVENTORY)
    ]
    assert shapes == [(12, 90), (16, 365), (12, 7)]
    assert {spec.replication for spec in production.values()} == {3}


@pytest.mark.parametrize("profile", get_args(Profile))
def test_every_topic_keeps_the_time_of_the_event(profile: Profile) -> None:
    """Protocol rule 10: with another type, or a bound on the time, a clock jump stops the relay."""
    for spec in load_topics(profile).values():
        assert spec.config["message.timestamp.type"] == "CreateTime"
        assert spec.config["message.timestamp.after.max.ms"] == str(2**63 - 1)


def test_every_event_type_rides_on_a_stream_topic() -> None:
    assert {kind.topic for kind in EVENT_TYPES.values()} == set(STREAM_TOPICS)


def test_a_topic_without_a_setting_is_refused() -> None:
    with pytest.raises(KeyError):
        load_topics("local", '[topics.x]\nkey = "k"\n[topics.x.local]\npartitions = 1\n')
