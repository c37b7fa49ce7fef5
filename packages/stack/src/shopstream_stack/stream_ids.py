"""Stream ids that cannot be resumed, made for the topics of a running broker."""

from __future__ import annotations

import secrets
from typing import Final, Literal

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from shopstream_shared.kafka import KafkaConnection, topic_ids
from shopstream_shared.stream_id import EPOCH_BYTES, StreamPosition, epoch_of
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.errors import StackError

Kind = Literal["future", "evicted", "unknown-epoch"]
ASK_SECONDS_MAX: Final = 10.0
# Far enough that no load of a test reaches it while the id is in use.
FUTURE_OFFSETS: Final = 1_000_000_000


def unresumable(brokers: str, kind: Kind) -> str:
    """A well-formed id that the stream answers with a gap of that reason.

    `evicted` is offset 0 everywhere, so it is evicted only once `anything_evicted`.
    Raises StackError when the broker or a topic is not there.
    """
    connection = KafkaConnection(brokers, "shopstream-stream-id")
    try:
        admin = AdminClient(connection.admin())
        epoch = epoch_of(topic_ids(admin, STREAM_TOPICS))
        ends = {key: high for key, (_low, high) in _watermarks(connection).items()}
    except (KafkaException, KeyError, TimeoutError) as error:
        reason = str(error) or "no answer in time"
        raise StackError(f"The stream topics cannot be read from {brokers}: {reason}") from error
    if kind == "unknown-epoch":
        epoch = secrets.token_bytes(EPOCH_BYTES)
    elif kind == "future":
        ends = {key: end + FUTURE_OFFSETS for key, end in ends.items()}
    else:
        ends = dict.fromkeys(ends, 0)
    partitions = {topic: sum(key[0] == topic for key in ends) for topic in STREAM_TOPICS}
    return StreamPosition.of(epoch, ends, partitions).encode()


def anything_evicted(brokers: str) -> bool:
    """Whether retention has removed a record of the stream topics.

    Raises StackError when the broker or a topic is not there.
    """
    try:
        found = _watermarks(KafkaConnection(brokers, "shopstream-stream-id"))
    except (KafkaException, KeyError) as error:
        raise StackError(f"The stream topics cannot be read from {brokers}: {error}") from error
    return any(low > 0 for low, _high in found.values())


def _watermarks(connection: KafkaConnection) -> dict[tuple[str, int], tuple[int, int]]:
    consumer = Consumer(connection.consumer("shopstream-stream-id"))
    try:
        found: dict[tuple[str, int], tuple[int, int]] = {}
        for topic in STREAM_TOPICS:
            metadata = consumer.list_topics(topic, timeout=ASK_SECONDS_MAX).topics[topic]
            for number in metadata.partitions:
                partition = TopicPartition(topic, number)
                low, high = consumer.get_watermark_offsets(partition, timeout=ASK_SECONDS_MAX)
                found[topic, number] = low, high
        return found
    finally:
        consumer.close()
