"""The event log as the check reads it: committed records only, a partition at a time, in order."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

import msgspec
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from shopstream_shared.archive.keys import Place
from shopstream_shared.archive.lines import Record
from shopstream_shared.boundaries import Boundary, read_boundaries
from shopstream_shared.kafka import METADATA_TIMEOUT_SECONDS, KafkaConnection, answer, topic_ids
from shopstream_shared.letter_head import read_head
from shopstream_shared.topics import DEAD_LETTER, STREAM_TOPICS
from shopstream_stack.errors import StackError

__all__ = ["Log", "Place", "Record", "away"]

#: Without one record or end of partition for this long, the log counts as unreadable.
SILENCE_SECONDS_MAX: Final = 30.0
POLL_SECONDS: Final = 0.2
CHUNK_RECORDS: Final = 1_000
#: What the client may fetch ahead of us, in KiB; its own default is 64 MiB.
AHEAD_KIBIBYTES: Final = 8_192
#: The first look back for a partition's last record, and how much longer each next one is.
LOOK_BACK_OFFSETS: Final = 64
LOOK_BACK_FACTOR: Final = 16

_LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the library has no types here
_EARLIEST: Final[OffsetSpec] = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # as above


class Log:
    """A reader in no group that anyone watches; it commits nothing. Blocking."""

    def __init__(self, brokers: str) -> None:
        self.brokers = brokers
        self._connection = KafkaConnection(brokers, "shopstream-verify")
        self._admin = AdminClient(self._connection.admin())

    def places(self) -> list[Place]:
        """Every stream partition. Raises StackError when the broker or a topic is away."""
        try:
            found = self._admin.list_topics(timeout=METADATA_TIMEOUT_SECONDS).topics
        except KafkaException as error:
            raise away(self.brokers, error) from error
        if missing := [topic for topic in STREAM_TOPICS if topic not in found]:
            raise StackError(f"Kafka at {self.brokers} has no topic {', '.join(missing)}")
        return [
            Place(topic, number)
            for topic in STREAM_TOPICS
            for number in sorted(found[topic].partitions)
        ]

    def topic_ids(self) -> Mapping[str, str]:
        """The topics' epochs (protocol rule 13). Raises StackError."""
        try:
            return topic_ids(self._admin, STREAM_TOPICS)
        except KafkaException as error:
            raise away(self.brokers, error) from error

    def boundaries(self) -> tuple[Boundary, ...]:
        """Where topics got more partitions (protocol rule 14), oldest first. Raises StackError."""
        try:
            return read_boundaries(self._connection)
        except KafkaException as error:
            raise away(self.brokers, error) from error
        except msgspec.MsgspecError as error:
            raise StackError(
                f"Kafka at {self.brokers} cannot be read: a boundary: {error}"
            ) from error

    def starts(self, places: Collection[Place]) -> dict[Place, int]:
        """The first offset of each partition."""
        return self._offsets(places, _EARLIEST, IsolationLevel.READ_UNCOMMITTED)

    def ends(self, places: Collection[Place]) -> dict[Place, int]:
        """The high watermarks: what is open or aborted lies below them, too."""
        return self._offsets(places, _LATEST, IsolationLevel.READ_UNCOMMITTED)

    def stable_ends(self, places: Collection[Place]) -> dict[Place, int]:
        """The last stable offsets: below them every transaction has ended."""
        return self._offsets(places, _LATEST, IsolationLevel.READ_COMMITTED)

    def _offsets(
        self, places: Collection[Place], spec: OffsetSpec, isolation: IsolationLevel
    ) -> dict[Place, int]:
        wanted = {TopicPartition(*place): spec for place in places}
        try:
            futures = self._admin.list_offsets(
                wanted, isolation_level=isolation, request_timeout=METADATA_TIMEOUT_SECONDS
            )
            return {
                Place(where.topic, where.partition): answer(future).offset
                for where, future in futures.items()
            }
        except KafkaException as error:
            raise away(self.brokers, error) from error

    def last_record(self, place: Place, start: int, end: int) -> int | None:
        """The offset of the last committed record of [start, end); the rest may be markers."""
        back = LOOK_BACK_OFFSETS
        while start < end:
            low = max(start, end - back)
            found = None
            for record in self.read(place, low, end):
                found = record.offset
            if found is not None or low == start:
                return found
            back *= LOOK_BACK_FACTOR
        return None

    def letters(self) -> Iterator[tuple[str, int, int, int]]:
        """Topic, epoch, partition and offset of each dead-lettered record."""
        try:
            known = self._admin.list_topics(DEAD_LETTER, timeout=METADATA_TIMEOUT_SECONDS).topics
        except KafkaException as error:
            raise away(self.brokers, error) from error
        places = [Place(DEAD_LETTER, number) for number in known[DEAD_LETTER].partitions]
        starts, ends = self.starts(places), self.stable_ends(places)
        for place in places:
            for record in self.read(place, starts[place], ends[place]):
                if (head := read_head(record.headers)) is not None:
                    yield head.topic, head.epoch, head.partition, head.offset

    def read(
        self, place: Place, start: int, end: int, removed: Callable[[int], None] | None = None
    ) -> Iterator[Record]:
        """The committed records of [start, end). Raises StackError.

        ``removed`` is told of the log's new start where retention takes away what was to be read.
        """
        if start >= end:
            return
        consumer = Consumer(
            {
                **self._connection.consumer("shopstream-verify"),
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": AHEAD_KIBIBYTES,
            }
        )
        try:
            while start < end:
                try:
                    for record in self._records(consumer, place, start, end):
                        start = record.offset + 1
                        yield record
                except KafkaException as error:
                    begun = self._begun(error, place)
                    if begun <= start:
                        raise away(self.brokers, error) from error
                    if removed is not None:
                        removed(begun)
                    start = begun
                else:
                    return
        finally:
            consumer.close()

    def _begun(self, error: KafkaException, place: Place) -> int:
        """Where the log begins now, if that is what the error is about; 0 if not."""
        if error.args[0].code() != KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - librdkafka's only name
            return 0
        return self.starts([place])[place]

    def _records(self, consumer: Consumer, place: Place, start: int, end: int) -> Iterator[Record]:
        consumer.assign([TopicPartition(*place, start)])
        for message in self._messages(consumer, place, end):
            offset = message.offset()
            if offset is None or offset >= end:
                return
            yield _record(message, offset)

    def _messages(self, consumer: Consumer, place: Place, end: int) -> Iterator[Message]:
        """Until the partition's end, which may lie beyond ``end``."""
        deadline = time.monotonic() + SILENCE_SECONDS_MAX
        while True:
            # `consume` alone would wait until the chunk is full or the time is over.
            first = consumer.poll(POLL_SECONDS)
            if first is None:
                if time.monotonic() > deadline:
                    raise StackError(
                        f"{place} on {self.brokers} gave nothing for {SILENCE_SECONDS_MAX:g} s"
                    )
                continue
            for message in (first, *consumer.consume(CHUNK_RECORDS, 0)):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's only name
                    if error.fatal() or not error.retriable():
                        raise KafkaException(error)
                elif (message.offset() or 0) >= end:
                    return
            # What the reader did with the chunk took its own time.
            deadline = time.monotonic() + SILENCE_SECONDS_MAX


def away(brokers: str, error: KafkaException) -> StackError:
    """One clear line for a broker that does not answer."""
    fault = error.args[0]
    reason = fault.str() if isinstance(fault, KafkaError) else str(error)
    return StackError(f"Kafka at {brokers} cannot be read: {reason}")


def _record(message: Message, offset: int) -> Record:
    headers: Any = message.headers()
    return Record(
        offset,
        message.timestamp()[1],
        message.key(),
        headers or [],
        message.value(),
    )
