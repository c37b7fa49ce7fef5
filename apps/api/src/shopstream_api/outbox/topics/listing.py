"""The topics as the broker has them, beside what the relay uses and what topics.toml says."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from confluent_kafka.admin import AdminClient

from shopstream_api.outbox.topics.books import Stored
from shopstream_shared.boundaries import Boundary
from shopstream_shared.kafka import topic_states
from shopstream_shared.topic_admin import differences
from shopstream_shared.topics import BOUNDARIES, STREAM_TOPICS, TopicSpec, TopicState

#: ``unused``: no relay has published yet, so nothing is stored of it.
State = Literal["ok", "unused", "missing", "topic_recreated", "partitions_changed", "differs"]


class Listed(msgspec.Struct, frozen=True, rename="camel"):
    """One topic; ``boundaries``: the ends of each time it got more partitions, oldest first."""

    topic: str
    state: State
    partitions: int | None
    id: str | None
    stored_partitions: int | None
    stored_id: str | None
    generation: int | None
    differences: list[str] = []
    boundaries: list[tuple[int, ...]] = []


def list_topics(
    admin: AdminClient,
    specs: Mapping[str, TopicSpec],
    stored: Mapping[str, Stored],
    boundaries: list[Boundary],
) -> list[Listed]:
    """A row a topic of topics.toml, and one for the boundaries if there are any.

    Raises KafkaException, also when the broker gives topics no ids.
    """
    found = topic_states(admin, (*specs, BOUNDARIES))
    lines = differences(admin, specs)
    names = [*specs, *({BOUNDARIES} & (found.keys() | stored.keys()))]
    return [
        _listed(name, found.get(name), stored.get(name), lines.get(name, []), boundaries)
        for name in names
    ]


def _listed(
    topic: str,
    found: TopicState | None,
    stored: Stored | None,
    lines: list[str],
    boundaries: list[Boundary],
) -> Listed:
    return Listed(
        topic=topic,
        state=_state(topic, found, stored, lines),
        partitions=None if found is None else found.partitions,
        id=None if found is None else found.id,
        stored_partitions=None if stored is None else stored.state.partitions,
        stored_id=None if stored is None else stored.state.id,
        generation=None if stored is None else stored.generation,
        differences=lines,
        boundaries=[
            b.ends
            for b in boundaries
            if found is not None and b.topic == topic and b.topic_id == found.id
        ],
    )


def _state(topic: str, found: TopicState | None, stored: Stored | None, lines: list[str]) -> State:
    if found is None:
        return "missing"
    if stored is not None and stored.state.id != found.id:
        return "topic_recreated"
    if (
        stored is not None
        and topic in STREAM_TOPICS
        and stored.state.partitions != found.partitions
    ):
        return "partitions_changed"
    if lines:
        return "differs"
    return "unused" if stored is None and topic in STREAM_TOPICS else "ok"
