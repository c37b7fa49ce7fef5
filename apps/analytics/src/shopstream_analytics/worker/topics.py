"""What the broker says of our topics, asked with a bound."""

import asyncio
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from shopstream_analytics.sink import Topics, TopicState
from shopstream_shared.kafka import METADATA_TIMEOUT_SECONDS, KafkaConnection, answer


class BrokerUnavailable(Exception):
    """The broker does not answer, or does not have our topics yet."""


async def describe(kafka: KafkaConnection, names: Sequence[str]) -> Topics:
    """Id and partitions of each topic. Raises BrokerUnavailable."""
    return await asyncio.to_thread(_describe, kafka, list(names))


def _describe(kafka: KafkaConnection, names: list[str]) -> Topics:
    # A new client each time: one that saw the broker away keeps its own idea of it for a while.
    admin = AdminClient(kafka.admin())
    topics: dict[str, TopicState] = {}
    missing: list[str] = []
    futures = admin.describe_topics(
        TopicCollection(names), request_timeout=METADATA_TIMEOUT_SECONDS
    )
    for name, future in futures.items():
        try:
            found = answer(future)
        except KafkaException as error:
            fault = error.args[0]
            if fault.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise BrokerUnavailable(f"broker: {fault.name()}") from error
            missing.append(name)
        else:
            topics[name] = TopicState(str(found.topic_id), len(found.partitions))
    if missing:
        raise BrokerUnavailable(f"topics missing: {', '.join(sorted(missing))}")
    return topics
