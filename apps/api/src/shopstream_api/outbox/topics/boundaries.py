"""Write boundaries to their topic, which is made when it is needed for the first time."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from shopstream_shared.boundaries import PART, Boundary, encode_boundary
from shopstream_shared.kafka import KafkaConnection, topic_states
from shopstream_shared.topic_admin import ensure_topics, shapes
from shopstream_shared.topics import BOUNDARIES, RELAY_PROGRESS, TopicSpec, TopicState

FLUSH_SECONDS_MAX: Final = 10.0


def write_boundaries(
    connection: KafkaConnection, progress: TopicSpec, boundaries: Iterable[Boundary]
) -> TopicState:
    """Write them in this order; they are there, for good, when it returns. Answers their topic.

    ``progress``: the progress topic's settings, after which this one is made. Raises
    KafkaException.
    """
    admin = AdminClient(connection.admin())
    if BOUNDARIES not in topic_states(admin, [BOUNDARIES]):
        # As many copies as the progress topic has, which may be fewer than the file wants by now.
        _, replication = shapes(admin, [RELAY_PROGRESS])[RELAY_PROGRESS]
        spec = replace(progress, name=BOUNDARIES, key="the change", partitions=1)
        ensure_topics(admin, [replace(spec, replication=replication)])
    failed: list[KafkaError] = []

    def report(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer(connection.idempotent_producer())
    for boundary in boundaries:
        producer.produce(
            PART[0], encode_boundary(boundary), boundary.key, PART[1], on_delivery=report
        )
    if producer.flush(FLUSH_SECONDS_MAX):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - the library's name
    if failed:
        raise KafkaException(failed[0])
    return topic_states(admin, [BOUNDARIES])[BOUNDARIES]
