"""Dead letters: unreadable records, each once on shop.dead-letter.

Protocol rule 21: a transactional producer a source partition (`analytics-dlq-<topic>-<p>`). Before
its first letter it calls init_transactions, which fences a zombie and settles what was open, and
then reads the dead-letter topic up to its end for letters of this partition past the checkpoint;
those are not sent again. So there is one copy of each, also after a crash between letter and
checkpoint. A partition without letters never opens a producer. Whatever goes wrong, the producer
is dropped, and the next try begins from init_transactions.

Kafka's client blocks; everything here that talks to it runs in a thread.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from shopstream_analytics.aggregates.sink import GROUP, Letter
from shopstream_analytics.consumer.batch import Record, Source
from shopstream_analytics.progress import Progress
from shopstream_analytics.sink import SinkUnavailable
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import DEAD_LETTER

#: Each step with the broker; then the whole is tried again.
STEP_SECONDS_MAX: Final = 10.0
#: A detail quotes parsers, who may quote the record.
DETAIL_CHARACTERS_MAX: Final = 500
#: A letter is the record and a few headers: topics.toml gives shop.dead-letter this limit.
LETTER_BYTES_MAX: Final = 2_097_152
_POLL_RECORDS_MAX: Final = 500


@dataclass(slots=True)
class PartitionLetters:
    """The letters of one source partition, in one epoch of its topic.

    An offset stands for another record in each epoch, so that letters of a further one carry its
    number, in a header that those of the first have only where the record brings one of that name.
    """

    kafka: KafkaConnection
    source: Source
    progress: Progress
    epoch: int = 0
    _producer: Producer | None = None
    _sent: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def send(self, letters: Sequence[Letter], *, since: int) -> None:
        """See Letters.send."""
        await asyncio.to_thread(self._send, letters, since)

    def _send(self, letters: Sequence[Letter], since: int) -> None:
        # A cancelled wait leaves its thread running; the next one must not overtake it.
        with self._lock:
            try:
                self._deliver(letters, since)
            except KafkaException as error:
                self._producer = None
                raise SinkUnavailable(f"dead letters: {_name(error)}") from error
            except BaseException:
                self._producer = None
                raise

    def _deliver(self, letters: Sequence[Letter], since: int) -> None:
        if self._producer is None:
            producer = Producer(self._settings())
            producer.init_transactions(STEP_SECONDS_MAX)
            self._sent = set(self._offsets_sent(since))
            self._producer = producer
        # What is below the checkpoint never comes again.
        self._sent = {offset for offset in self._sent if offset >= since}
        fresh = [letter for letter in letters if letter.record.offset not in self._sent]
        if not fresh:
            return
        self._producer.begin_transaction()
        for letter in fresh:
            self._producer.produce(
                DEAD_LETTER,
                value=letter.record.value,
                key=letter.record.key,
                headers=headers_of(letter, self.epoch),
            )
        self._producer.commit_transaction(STEP_SECONDS_MAX)
        for letter in fresh:
            self._sent.add(letter.record.offset)
            self.progress.letter()

    def _settings(self) -> dict[str, object]:
        name = f"analytics-dlq-{self.source.topic}-{self.source.partition}"
        return {**self.kafka.transactional_producer(name), "message.max.bytes": LETTER_BYTES_MAX}

    def _offsets_sent(self, since: int) -> Iterator[int]:
        """Offsets of our letters from ``since`` on; read to an end asked for after the fencing."""
        consumer = Consumer(
            {**self.kafka.consumer(f"{GROUP}-letters"), "enable.partition.eof": True}
        )
        try:
            for partition in _partitions(consumer):
                yield from self._offsets_in(consumer, partition, since)
        finally:
            consumer.close()

    def _offsets_in(self, consumer: Consumer, partition: int, since: int) -> Iterator[int]:
        where = TopicPartition(DEAD_LETTER, partition)
        # Read_committed sees the last stable offset as the end; only the plain high watermark
        # says whether a transaction of another producer still hides letters.
        first, end = consumer.get_watermark_offsets(where, STEP_SECONDS_MAX)
        consumer.assign([TopicPartition(DEAD_LETTER, partition, first)])
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while _position(consumer, where, first) < end:
            if time.monotonic() > deadline:
                raise SinkUnavailable(f"dead letters: {DEAD_LETTER} cannot be read to its end")
            for message in consumer.consume(_POLL_RECORDS_MAX, timeout=0.1):
                fault = message.error()
                if fault is None:
                    deadline = time.monotonic() + STEP_SECONDS_MAX
                    offset = offset_sent(message, self.source, self.epoch)
                    if offset is not None and offset >= since:
                        yield offset
                elif fault.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise KafkaException(fault)


def headers_of(letter: Letter, epoch: int = 0) -> list[tuple[str, bytes | str | None]]:
    """The record's own headers, then where it came from and what is wrong with it."""
    record = letter.record
    return [
        *record.headers,
        ("dlq_reason", letter.reason.encode()),
        ("dlq_detail", letter.detail[:DETAIL_CHARACTERS_MAX].encode(errors="replace")),
        ("dlq_topic", record.topic.encode()),
        ("dlq_partition", str(record.partition).encode()),
        ("dlq_offset", str(record.offset).encode()),
        ("dlq_group", GROUP.encode()),
        *([("dlq_epoch", str(epoch).encode())] if epoch or _names_epoch(record) else ()),
    ]


def _names_epoch(record: Record) -> bool:
    """Whether the record has a header of its own that would be taken for the letter's epoch."""
    return any(name == "dlq_epoch" for name, _ in record.headers)


def offset_sent(message: Message, source: Source, epoch: int = 0) -> int | None:
    """Which record of the source this letter is a copy of; None when it is another's or none."""
    # The record's own headers come first; of a repeated name ours is the last.
    headers = dict(message.headers() or ())
    if headers.get("dlq_topic") != source.topic.encode():
        return None
    if headers.get("dlq_partition") != str(source.partition).encode():
        return None
    if (headers.get("dlq_epoch") or b"0") != str(epoch).encode():
        return None
    try:
        return int(headers.get("dlq_offset") or b"")
    except ValueError:
        # Whoever may write to the topic may write anything: no letter of ours.
        return None


def _partitions(consumer: Consumer) -> list[int]:
    metadata = consumer.list_topics(DEAD_LETTER, STEP_SECONDS_MAX)
    return sorted(metadata.topics[DEAD_LETTER].partitions)


def _position(consumer: Consumer, where: TopicPartition, first: int) -> int:
    offset = consumer.position([where])[0].offset
    return first if offset < 0 else offset


def _name(error: KafkaException) -> str:
    fault = error.args[0]
    return fault.name() if isinstance(fault, KafkaError) else type(error).__name__
