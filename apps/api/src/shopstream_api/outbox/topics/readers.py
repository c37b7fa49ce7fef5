"""How far the groups that read a topic have come, by the positions that they commit."""

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Final, Self

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from shopstream_shared.kafka import METADATA_TIMEOUT_SECONDS, KafkaConnection, answer
from shopstream_shared.log_range import Part

#: It keeps each partition's records apart, in files; who reads them goes by the boundary. Waiting
#: for it would pause the relays until its files are cut.
NOT_WAITED_FOR: Final = ("analytics-archive",)


class Readers:
    """All groups of the broker but ``without``; ``with`` ends the clients.

    Asks by a consumer of each group, which never joins it: the admin client's own question ends the
    process while a young broker still loads its coordinator (librdkafka 2.16).
    """

    def __init__(
        self, connection: KafkaConnection, admin: AdminClient, without: Collection[str]
    ) -> None:
        self._connection = connection
        self._admin = admin
        self._without = {*without, *NOT_WAITED_FOR}
        self._consumers: dict[str, Consumer] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def behind(self, ends: Mapping[Part, int]) -> dict[str, int]:
        """How many offsets each group has still to read, where any. Raises KafkaException.

        A group counts for the topics in which it has committed a position at all.
        """
        listed = self._admin.list_consumer_groups(request_timeout=METADATA_TIMEOUT_SECONDS)
        groups = {group.group_id for group in answer(listed).valid} - self._without
        lags = {group: _lag(self._committed(group, ends), ends) for group in groups}
        return {group: lag for group, lag in lags.items() if lag}

    def _committed(self, group: str, parts: Collection[Part]) -> dict[Part, int]:
        if group not in self._consumers:
            consumer = Consumer(self._connection.consumer(group))
            self._stack.callback(consumer.close)
            self._consumers[group] = consumer
        asked = [TopicPartition(*part) for part in parts]
        found = self._consumers[group].committed(asked, METADATA_TIMEOUT_SECONDS)
        return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}


def _lag(committed: Mapping[Part, int], ends: Mapping[Part, int]) -> int:
    topics = {topic for topic, _ in committed}
    return sum(
        max(0, end - committed.get(part, 0)) for part, end in ends.items() if part[0] in topics
    )
