"""The log in Kafka, through confluent-kafka's synchronous producer (AIOProducer takes no headers).

Each blocking step is bounded, to STEP_SECONDS or ASK_SECONDS_MAX, with the relay's heartbeat
between, so that the leader's session stays alive (protocol rule 9) and a stop is never kept waiting
long.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from shopstream_api.outbox.relay.ports import (
    Delivered,
    Fenced,
    LogFailed,
    Position,
    ProducerSpent,
    Row,
    RowsRefused,
    Topics,
)
from shopstream_api.outbox.relay.progress import outbox_of
from shopstream_shared.kafka import (
    RETRY_SECONDS_MIN,
    SETTLE_SECONDS_MAX,
    KafkaConnection,
    topic_states,
)
from shopstream_shared.log_range import EARLIEST, Part, log_ends, log_offsets, settled_ends
from shopstream_shared.topics import BOUNDARIES, RELAY_PROGRESS, STREAM_TOPICS

STEP_SECONDS: Final = 1.0
#: `flush` above 0.2 s goes in steps of its own, and on past an error that a callback has raised.
FLUSH_STEP_SECONDS: Final = 0.1
#: Of one question to the broker; with PING_SECONDS well below what ends a silent session.
ASK_SECONDS_MAX: Final = 2.0
READ_STEP_SECONDS: Final = 0.05
QUEUE_FULL: Final = "the producer's queue is full"
#: The first look back for the newest progress record; doubled until one is found.
LOOK_BACK_OFFSETS: Final = 64

T = TypeVar("T")

#: A record with one of these can never be accepted, however often it is sent (rule 11).
_REFUSED_FOR_GOOD: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_RECORD,
    }
)
_FENCED: Final = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001 - librdkafka's own codes begin with an underscore
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    }
)


class KafkaLog:
    """An EventLog of one shard; ``heartbeat`` may raise to end any wait."""

    def __init__(
        self, connection: KafkaConnection, heartbeat: Callable[[], None], shard: int = 0
    ) -> None:
        self._connection = connection
        self._heartbeat = heartbeat
        self._progress: Part = (RELAY_PROGRESS, shard)
        self._admin = AdminClient(connection.admin())
        self._producer: Producer | None = None
        self._transactional_id = ""
        self._doubtful = False
        self._reports = _Reports(())

    def topics(self) -> Topics:
        wanted = (*STREAM_TOPICS, RELAY_PROGRESS)
        found = self._ask(
            lambda: topic_states(
                self._admin, (*wanted, BOUNDARIES), timeout_seconds=ASK_SECONDS_MAX
            )
        )
        missing = [topic for topic in wanted if topic not in found]
        if missing:
            raise LogFailed(f"topics do not exist yet: {', '.join(missing)}")
        return found

    def fence(self, transactional_id: str) -> None:
        self.close()
        self._transactional_id = transactional_id
        self._doubtful = False
        settings = self._connection.transactional_producer(transactional_id)
        self._producer = producer = Producer(settings)
        self._repeat(lambda: producer.init_transactions(STEP_SECONDS))

    def read_progress(self, ours: Callable[[bytes], bool]) -> bytes | None:
        end, low = self._final_end(), self._first_offset()
        consumer = Consumer(
            {
                **self._connection.consumer("relay-progress"),
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
            }
        )
        try:
            back = LOOK_BACK_OFFSETS
            while end > low:
                start = max(low, end - back)
                found = self._newest(consumer, start, end, ours)
                if found is not None or start == low:
                    return found
                back *= 2
        except KafkaException as error:
            raise _failure(error) from error
        finally:
            consumer.close()
        return None

    def end_position(self) -> Position:
        parts = [
            (topic, partition)
            for topic, state in self.topics().items()
            if topic in STREAM_TOPICS
            for partition in range(state.partitions)
        ]
        return self._ask(lambda: log_ends(self._admin, parts, timeout_seconds=ASK_SECONDS_MAX))

    def begin(self) -> None:
        producer = self._live()
        if self._doubtful:
            raise ProducerSpent("a commit took long enough to have been sent twice")
        try:
            producer.begin_transaction()
        except KafkaException as error:
            raise _failure(error) from error

    def send(self, rows: Sequence[Row]) -> None:
        producer, reports = self._live(), _Reports(rows)
        self._reports = reports
        produce, report = producer.produce, reports.add
        try:
            for row in rows:
                try:
                    produce(
                        row.topic,
                        row.value,
                        row.key,
                        on_delivery=report,
                        timestamp=row.time_ms,
                        headers=list(row.headers),
                    )
                except KafkaException as error:
                    reports.refuse(error.args[0], row)
        except KafkaException as error:
            raise _failure(error) from error
        except BufferError as error:
            raise LogFailed(QUEUE_FULL) from error

    def deliver(self, progress: bytes) -> Delivered:
        producer, reports = self._live(), self._reports
        topic, partition = self._progress
        try:
            producer.produce(
                topic,
                progress,
                # Compaction keeps the last of each key: two outboxes that use one id in turn have
                # one each, or what the first had committed would be forgotten, and sent again.
                f"{self._transactional_id}/{outbox_of(progress)}",
                partition,
                on_delivery=reports.add,
            )
            self._flush(producer)
        except KafkaException as error:
            raise _failure(error) from error
        except BufferError as error:
            raise LogFailed(QUEUE_FULL) from error
        return reports.delivered()

    def commit(self) -> None:
        # Rule 8: from here on only this call is repeated; any other end is for recovery to settle.
        producer, began = self._live(), time.monotonic()
        asked = self._repeat(lambda: producer.commit_transaction(STEP_SECONDS))
        # When its connection is lost librdkafka sends the request again. The first may come through
        # after all, and would end the producer's next transaction early, for there is one epoch for
        # all of them (librdkafka lacks that half of KIP-890, its issue 5423): events without their
        # progress, or progress without its events. A new producer's epoch keeps it out. Only time
        # tells: librdkafka says nothing of a lost connection while any other stands.
        self._doubtful = asked > 1 or time.monotonic() - began >= RETRY_SECONDS_MIN

    def close(self) -> None:
        # Not Producer.close(): that aborts what is open, and after a commit attempt nobody may
        # (rule 8). Dropping the last reference destroys the client at once, saying nothing.
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()

    def _live(self) -> Producer:
        if self._producer is None:
            raise LogFailed("there is no producer")
        return self._producer

    def _flush(self, producer: Producer) -> None:
        """Wait for every delivery report; librdkafka's message time-out bounds the wait."""
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while producer.flush(FLUSH_STEP_SECONDS):
            self._heartbeat()
            if time.monotonic() > deadline:
                raise LogFailed("the broker does not acknowledge")

    def _repeat(self, call: Callable[[], object]) -> int:
        """Repeat one call while its outcome is open and asking again can tell; how often."""
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        asked = 0
        while True:
            asked += 1
            try:
                call()
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise _failure(error) from error
                self._heartbeat()
            else:
                return asked

    def _ask(self, question: Callable[[], T]) -> T:
        """An answer of the broker, after a heartbeat."""
        self._heartbeat()
        try:
            return question()
        except KafkaException as error:
            raise _failure(error) from error

    def _final_end(self) -> int:
        """The end of the progress partition once nothing below it is open (rule 7)."""
        ends = self._ask(
            lambda: settled_ends(
                self._admin, [self._progress], self._heartbeat, timeout_seconds=ASK_SECONDS_MAX
            )
        )
        return ends[self._progress]

    def _first_offset(self) -> int:
        """The oldest offset that compaction has left of the progress partition."""
        found = self._ask(
            lambda: log_offsets(
                self._admin, [self._progress], EARLIEST, timeout_seconds=ASK_SECONDS_MAX
            )
        )
        return found[self._progress]

    def _newest(
        self, consumer: Consumer, start: int, end: int, ours: Callable[[bytes], bool]
    ) -> bytes | None:
        """The last committed record of ours in [start, end), or None when there is none."""
        consumer.assign([TopicPartition(*self._progress, start)])
        newest: bytes | None = None
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while True:
            message = consumer.poll(READ_STEP_SECONDS)
            if message is not None:
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise KafkaException(error)
                if (message.offset() or 0) >= end:
                    # Of a later record, or of the end: markers and aborted records are no messages.
                    return newest
                value = message.value()
                if error is None and isinstance(value, bytes) and ours(value):
                    newest = value
            if time.monotonic() > deadline:
                raise LogFailed("the progress record cannot be read")
            self._heartbeat()


#: As a message has it.
_Place = tuple[str | None, int | None]


class _Reports:
    """The delivery reports of one batch.

    One function for all messages: a closure a message was a fifth of the relay's time. Which row a
    refusal is about is found by its value, which holds the event's id.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._first: dict[_Place, int | None] = {}
        self._last: dict[_Place, int | None] = {}
        self._refused: dict[int, str] = {}
        self._failed: KafkaError | None = None

    def add(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            # Those of one partition come in the order of their offsets.
            place, offset = (message.topic(), message.partition()), message.offset()
            if place not in self._last:
                self._first[place] = offset
            self._last[place] = offset
        elif error.code() in _REFUSED_FOR_GOOD and message.topic() != RELAY_PROGRESS:
            topic, value = message.topic(), message.value()
            for row in self._rows:
                if row.value == value and row.topic == topic:
                    self._refused[row.seq] = error.str()
        else:
            self._failed = error

    def refuse(self, error: KafkaError, row: Row) -> None:
        """What `produce` itself raised for a row. Raises KafkaException when it is no refusal."""
        if error.code() not in _REFUSED_FOR_GOOD:
            raise KafkaException(error)
        self._refused[row.seq] = error.str()

    def delivered(self) -> Delivered:
        """Raises RowsRefused and LogFailed."""
        if self._refused:
            raise RowsRefused(self._refused)
        if self._failed is not None:
            raise _failure(KafkaException(self._failed))
        after = {place: last + 1 for place, last in _of_the_stream(self._last).items()}
        return Delivered(_of_the_stream(self._first), after)


def _of_the_stream(offsets: Mapping[_Place, int | None]) -> dict[Part, int]:
    return {
        (topic, partition): offset
        for (topic, partition), offset in offsets.items()
        if topic is not None and partition is not None and offset is not None
        if topic != RELAY_PROGRESS
    }


def _failure(error: KafkaException) -> LogFailed:
    reason: KafkaError = error.args[0]
    if reason.code() in _FENCED:
        return Fenced(reason.str())
    return LogFailed(f"broker: {reason.str()}")
