"""Reads the event log back as any consumer would: committed records only, by offset."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from shopstream_shared.kafka import METADATA_TIMEOUT_SECONDS, KafkaConnection, topic_ids
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.demo.crowd import Keep
from shopstream_stack.demo.evidence import NotAnEvent, SeenEvent
from shopstream_stack.demo.wire import wire_faults

READ_SECONDS_MAX: Final = 30.0
_POLL_SECONDS: Final = 0.2

Offsets = Mapping[tuple[str, int], int]


class LogUnreadable(Exception):
    """The broker did not give all records up to its end in time, or said why not."""


class LogRecord(Protocol):
    """What we use of confluent-kafka's Message."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> Any: ...
    def value(self) -> Any: ...
    def headers(self) -> Any: ...
    def timestamp(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event, where it lies, and what around it contradicts it."""

    event: SeenEvent
    partition: int
    offset: int
    faults: tuple[str, ...]


class LogReader:
    """A reader of its own, in no group that anyone watches; commits nothing."""

    def __init__(self, brokers: str) -> None:
        self._connection = KafkaConnection(brokers, "shopstream-demo")

    def ends(self) -> dict[tuple[str, int], int]:
        """The next offset of every stream partition. Raises KafkaException."""
        consumer = Consumer(self._connection.consumer("shopstream-demo"))
        try:
            return {
                (partition.topic, partition.partition): consumer.get_watermark_offsets(
                    partition, timeout=METADATA_TIMEOUT_SECONDS
                )[1]
                for partition in _partitions(consumer)
            }
        finally:
            consumer.close()

    def topic_ids(self) -> Mapping[str, str]:
        """The broker's topic ids by name. Raises KafkaException."""
        return topic_ids(AdminClient(self._connection.admin()), STREAM_TOPICS)

    def read(self, start: Offsets, keep: Keep) -> list[LogEntry]:
        """Every committed event from ``start`` to the end.

        Records that are no events are passed over. Raises LogUnreadable, KafkaException.
        """
        config = self._connection.consumer("shopstream-demo") | {"enable.partition.eof": True}
        consumer = Consumer(config)
        try:
            consumer.assign(
                [TopicPartition(topic, number, offset) for (topic, number), offset in start.items()]
            )
            return _read_to_end(consumer, set(start), keep)
        finally:
            consumer.close()


def _partitions(consumer: Consumer) -> list[TopicPartition]:
    found = []
    for topic in STREAM_TOPICS:
        metadata = consumer.list_topics(topic, timeout=METADATA_TIMEOUT_SECONDS).topics[topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        found += [TopicPartition(topic, number) for number in metadata.partitions]
    return found


def _read_to_end(consumer: Consumer, left: set[tuple[str, int]], keep: Keep) -> list[LogEntry]:
    deadline = time.monotonic() + READ_SECONDS_MAX
    found: list[LogEntry] = []
    while left:
        if time.monotonic() > deadline:
            raise LogUnreadable(f"no end of {sorted(left)} within {READ_SECONDS_MAX:g} s")
        message = consumer.poll(_POLL_SECONDS)
        if message is None:
            continue
        error = message.error()
        if error is None:
            found += _entry(message, keep)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's only name
            left.discard((str(message.topic()), int(message.partition() or 0)))
        elif error.fatal():
            raise LogUnreadable(str(error))
    return found


def _entry(message: LogRecord, keep: Keep) -> list[LogEntry]:
    topic, partition, offset = message.topic(), message.partition() or 0, message.offset() or 0
    place = f"{topic}/{partition}@{offset}"
    try:
        event = SeenEvent.read(message.value() or b"", place, topic)
    except NotAnEvent:
        return []
    if not keep(event):
        return []
    headers = [(name, value.decode(errors="replace")) for name, value in message.headers() or ()]
    key = (message.key() or b"").decode(errors="replace")
    faults = wire_faults(event.body, key, headers, message.timestamp()[1])
    return [LogEntry(event, partition, offset, tuple(f"{place}: {fault}" for fault in faults))]
