"""Dead letters: unreadable records, each once on shop.dead-letter.

Protocol rule 21: a transactional producer a source partition (`analytics-dlq-<topic>-<p>`). Before
the partition's first write, and again before its first letter, it calls init_transactions, which
fences a zombie and settles what was open, and then reads the dead-letter topic up to its end for
letters of this partition past the checkpoint; those are not sent again. So there is one copy of
each, also after a crash between letter and checkpoint, and a record that has one is known before
anything is counted (docs/adr/0039). Whatever goes wrong, the producer is dropped, and the next try
begins from init_transactions; but who was fenced has lost the partition and sends nothing more.

Kafka's client blocks; everything here that talks to it runs in a thread.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from shopstream_analytics.aggregates.sink import GROUP, Letter
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.progress import Progress
from shopstream_analytics.sink import PartitionLost, SinkUnavailable
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.letter_head import LetterHead, head_headers, read_head
from shopstream_shared.topics import DEAD_LETTER

T = TypeVar("T")

#: Each step with the broker; then the whole is tried again.
STEP_SECONDS_MAX: Final = 10.0
#: A letter is the record and a few headers: topics.toml gives shop.dead-letter this limit.
LETTER_BYTES_MAX: Final = 2_097_152
_POLL_RECORDS_MAX: Final = 500
_FENCED: Final = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001 - its public name
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
    }
)


class LettersFenced(PartitionLost):
    """Another worker has the partition; this one ends, instead of fencing it in turn."""


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
    #: Make the clients from their settings.
    producer_of: Callable[[dict[str, object]], Producer] = Producer
    consumer_of: Callable[[dict[str, object]], Consumer] = Consumer
    _producer: Producer | None = None
    _sent: set[int] = field(default_factory=set)
    _fenced: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def standing(self, since: int) -> frozenset[int]:
        """See Letters.standing."""
        return await asyncio.to_thread(self._alone, lambda: self._stand(since))

    async def send(self, letters: Sequence[Letter], *, since: int) -> None:
        """See Letters.send."""
        await asyncio.to_thread(self._alone, lambda: self._deliver(letters, since))

    def _alone(self, work: Callable[[], T]) -> T:
        # A cancelled wait leaves its thread running; the next one must not overtake it.
        with self._lock:
            if self._fenced:
                raise LettersFenced(f"{self.source}: another worker sends its letters")
            try:
                return work()
            except KafkaException as error:
                self._producer = None
                self._fenced = _code(error) in _FENCED
                if self._fenced:
                    raise LettersFenced(f"{self.source}: {_name(error)}") from error
                raise SinkUnavailable(f"dead letters: {_name(error)}") from error
            except BaseException:
                self._producer = None
                raise

    def _stand(self, since: int) -> frozenset[int]:
        self._begin(since)
        # Most partitions never have a letter: no producer and its threads for them.
        self._producer = None
        return frozenset(self._sent)

    def _begin(self, since: int) -> Producer:
        producer = self.producer_of(self._settings())
        producer.init_transactions(STEP_SECONDS_MAX)
        self._sent = set(self._offsets_sent(since))
        self._producer = producer
        return producer

    def _deliver(self, letters: Sequence[Letter], since: int) -> None:
        producer = self._begin(since) if self._producer is None else self._producer
        # What is below the checkpoint never comes again.
        self._sent = {offset for offset in self._sent if offset >= since}
        fresh = [letter for letter in letters if letter.record.offset not in self._sent]
        if not fresh:
            return
        producer.begin_transaction()
        for letter in fresh:
            producer.produce(
                DEAD_LETTER,
                value=letter.record.value,
                key=letter.record.key,
                headers=headers_of(letter, self.epoch),
            )
        producer.commit_transaction(STEP_SECONDS_MAX)
        for letter in fresh:
            self._sent.add(letter.record.offset)
            self.progress.letter()

    def _settings(self) -> dict[str, object]:
        name = f"analytics-dlq-{self.source.topic}-{self.source.partition}"
        return {**self.kafka.transactional_producer(name), "message.max.bytes": LETTER_BYTES_MAX}

    def _offsets_sent(self, since: int) -> Iterator[int]:
        """Offsets of our letters from ``since`` on; read to an end asked for after the fencing."""
        consumer = self.consumer_of(
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
    place = record.topic, record.partition, record.offset
    head = LetterHead(*place, epoch, letter.reason, letter.detail)
    return head_headers(head, GROUP, record.headers)


def offset_sent(message: Message, source: Source, epoch: int = 0) -> int | None:
    """Which record of the source this letter is a copy of; None when it is another's or none."""
    head = read_head(message.headers())
    if head is None or (head.topic, head.partition, head.epoch) != (*source, epoch):
        return None
    return head.offset


def _partitions(consumer: Consumer) -> list[int]:
    metadata = consumer.list_topics(DEAD_LETTER, STEP_SECONDS_MAX)
    return sorted(metadata.topics[DEAD_LETTER].partitions)


def _position(consumer: Consumer, where: TopicPartition, first: int) -> int:
    offset = consumer.position([where])[0].offset
    return first if offset < 0 else offset


def _code(error: KafkaException) -> int | None:
    fault = error.args[0]
    return fault.code() if isinstance(fault, KafkaError) else None


def _name(error: KafkaException) -> str:
    fault = error.args[0]
    return fault.name() if isinstance(fault, KafkaError) else type(error).__name__
