"""The log in Kafka, through confluent-kafka's synchronous producer (AIOProducer takes no headers).

Each blocking step is bounded to STEP_SECONDS, with the relay's heartbeat between steps, so that
the leader's session stays alive (protocol rule 9) and a stop is never kept waiting long.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from shopstream_api.outbox.relay.ports import (
    Fenced,
    LogFailed,
    Position,
    ProducerSpent,
    Row,
    RowsRefused,
    Topics,
)
from shopstream_shared.kafka import (
    METADATA_TIMEOUT_SECONDS,
    RETRY_SECONDS_MIN,
    TRANSACTION_TIMEOUT_MS,
    KafkaConnection,
    answer,
    topic_states,
)
from shopstream_shared.topics import BOUNDARIES, RELAY_PROGRESS, STREAM_TOPICS

STEP_SECONDS: Final = 1.0
#: Longer than the transaction time-out: by then the coordinator has settled what was open.
SETTLE_SECONDS_MAX: Final = 3 * TRANSACTION_TIMEOUT_MS / 1_000
LSO_POLL_SECONDS: Final = 0.05
QUEUE_FULL: Final = "the producer's queue is full"
#: The first look back for the newest progress record; doubled until one is found.
LOOK_BACK_OFFSETS: Final = 64

_LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the library has no types here
_EARLIEST: Final[OffsetSpec] = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # as above

#: A record with one of these can never be accepted, however often it is sent (rule 11).
_REFUSED_FOR_GOOD: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG,
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
        self._progress = TopicPartition(RELAY_PROGRESS, shard)
        self._admin = AdminClient(connection.admin())
        self._producer: Producer | None = None
        self._transactional_id = ""
        self._doubtful = False
        self._reports = _Reports(())

    def topics(self) -> Topics:
        wanted = (*STREAM_TOPICS, RELAY_PROGRESS)
        try:
            found = topic_states(self._admin, (*wanted, BOUNDARIES))
        except KafkaException as error:
            raise _failure(error) from error
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
        end = self._final_end()
        consumer = Consumer(
            {
                **self._connection.consumer("relay-progress"),
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
            }
        )
        try:
            low = self._offset(_EARLIEST, committed=False)
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
        wanted = {
            TopicPartition(topic, partition): _LATEST
            for topic, state in self.topics().items()
            if topic in STREAM_TOPICS
            for partition in range(state.partitions)
        }
        try:
            futures = self._admin.list_offsets(wanted, request_timeout=METADATA_TIMEOUT_SECONDS)
            return {
                (found.topic, found.partition): answer(future).offset
                for found, future in futures.items()
            }
        except KafkaException as error:
            raise _failure(error) from error

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

    def deliver(self, progress: bytes) -> Position:
        producer, reports = self._live(), self._reports
        try:
            producer.produce(
                self._progress.topic,
                progress,
                self._transactional_id,
                self._progress.partition,
                on_delivery=reports.add,
            )
            self._flush(producer)
        except KafkaException as error:
            raise _failure(error) from error
        except BufferError as error:
            raise LogFailed(QUEUE_FULL) from error
        return reports.position()

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
        while producer.flush(STEP_SECONDS):
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

    def _final_end(self) -> int:
        """The end of the progress partition once nothing below it is open (rule 7)."""
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while True:
            try:
                stable = self._offset(_LATEST, committed=True)
                end = self._offset(_LATEST, committed=False)
            except KafkaException as error:
                raise _failure(error) from error
            if stable == end:
                return end
            if time.monotonic() > deadline:
                raise LogFailed("the progress partition stays open")
            self._heartbeat()
            time.sleep(LSO_POLL_SECONDS)

    def _offset(self, spec: OffsetSpec, *, committed: bool) -> int:
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        futures = self._admin.list_offsets(
            {self._progress: spec},
            isolation_level=level,
            request_timeout=METADATA_TIMEOUT_SECONDS,
        )
        return int(answer(futures[self._progress]).offset)

    def _newest(
        self, consumer: Consumer, start: int, end: int, ours: Callable[[bytes], bool]
    ) -> bytes | None:
        """The last committed record of ours in [start, end), or None when there is none."""
        at = TopicPartition(self._progress.topic, self._progress.partition, start)
        consumer.assign([at])
        newest: bytes | None = None
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while True:
            message = consumer.poll(LSO_POLL_SECONDS)
            if message is not None:
                error = message.error()
                if error is None:
                    value = message.value()
                    if isinstance(value, bytes) and ours(value):
                        newest = value
                elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise KafkaException(error)
                elif (message.offset() or 0) >= end:
                    # Markers and aborted records are no messages; only this says all is read.
                    return newest
            if time.monotonic() > deadline:
                raise LogFailed("the progress record cannot be read")
            self._heartbeat()


class _Reports:
    """The delivery reports of one batch.

    One function for all messages: a closure a message was a fifth of the relay's time. Which row a
    refusal is about is found by its value, which holds the event's id.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._last: dict[tuple[str | None, int | None], int | None] = {}
        self._refused: dict[int, str] = {}
        self._failed: KafkaError | None = None

    def add(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            # Those of one partition come in the order of their offsets.
            self._last[message.topic(), message.partition()] = message.offset()
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

    def position(self) -> Position:
        """The next offsets. Raises RowsRefused and LogFailed."""
        if self._refused:
            raise RowsRefused(self._refused)
        if self._failed is not None:
            raise _failure(KafkaException(self._failed))
        return {
            (topic, partition): last + 1
            for (topic, partition), last in self._last.items()
            if topic is not None and partition is not None and last is not None
            if topic != RELAY_PROGRESS
        }


def _failure(error: KafkaException) -> LogFailed:
    reason: KafkaError = error.args[0]
    if reason.code() in _FENCED:
        return Fenced(reason.str())
    return LogFailed(f"broker: {reason.str()}")
