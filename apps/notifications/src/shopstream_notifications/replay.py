"""Cold replay: records that have left the shared log, read from the broker again.

A bounded pool of seek consumers. One read is a *slice*: at most SLICE_RECORDS_MAX records or
SLICE_BYTES_MAX bytes, then the consumer goes back to the pool, so that a long replay shares the
pool with others and a slow client never holds a consumer while it is written to. A slice keeps no
state: the client's own vector says where the next one begins. Who is next is decided by Turns; a
client asks for one slice at a time, so that this is its share.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from shopstream_notifications.broker import QUIET, BrokerUnavailable
from shopstream_notifications.filters import Filter
from shopstream_notifications.limits import Place
from shopstream_notifications.records import Offsets, Part, Record, read_record
from shopstream_notifications.turns import Turns
from shopstream_shared.kafka import Config, KafkaConnection

READERS_MAX: Final = 4
SLICE_RECORDS_MAX: Final = 2_000
#: Half of what may wait for a client: a slice waits for its socket as a whole.
SLICE_BYTES_MAX: Final = 512 * 1_024
#: Taken at once, before the bytes are looked at again.
TAKEN_MAX: Final = 50
#: A slice that brings nothing for this long finds the broker away.
SILENCE_SECONDS_MAX: Final = 10.0
POLL_SECONDS: Final = 0.1
FETCH_QUEUE_KBYTES: Final = 4_096
GROUP: Final = "notifications-replay"


class Evicted(Exception):
    """Retention took records away while they were being replayed."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Matching records in an order that is Kafka's per partition, and where the read stands."""

    records: list[Record]
    reached: dict[Part, int]


class ColdReplays:
    """The pool. Consumers are made when first needed and kept until ``close``."""

    def __init__(self, connection: KafkaConnection, *, waiting_max: int) -> None:
        self.turns = Turns(READERS_MAX, waiting_max)
        self._config: Config = {
            **connection.consumer(GROUP),
            **QUIET,
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": FETCH_QUEUE_KBYTES,
        }
        self._threads = ThreadPoolExecutor(READERS_MAX, "stream-replay")
        self._idle: SimpleQueue[Consumer] = SimpleQueue()
        self._closing = threading.Event()

    async def read(self, who: Place, wanted: Filter, begin: Offsets, stop: Offsets) -> Slice:
        """The next slice of [begin, stop) of each part, when it is the client's turn.

        Raises BrokerUnavailable, TurnsFull, or Evicted when ``begin`` is no longer on the broker.
        """
        async with self.turns.place(who):
            work = asyncio.get_running_loop().run_in_executor(
                self._threads, self._read, wanted, dict(begin), dict(stop)
            )
            work.add_done_callback(_looked_at)
            # A client that leaves must not give its place away while the thread still works.
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait((work,))
                raise

    async def close(self) -> None:
        """End reads under way and close the consumers; a silent broker does not hold it up."""
        self._closing.set()
        await asyncio.to_thread(self._threads.shutdown)
        for consumer in self._take_all():
            await asyncio.to_thread(consumer.close)

    def _take_all(self) -> Iterator[Consumer]:
        while True:
            try:
                yield self._idle.get_nowait()
            except Empty:
                return

    def _read(self, wanted: Filter, begin: dict[Part, int], stop: dict[Part, int]) -> Slice:
        consumer = next(self._take_all(), None) or Consumer(self._config)
        try:
            return _SliceReader(consumer, wanted, begin, stop).read(self._closing)
        finally:
            consumer.unassign()
            self._idle.put(consumer)


def _looked_at(work: asyncio.Future[Slice]) -> None:
    """How it ended is the client's business; with the client gone it is not an error to log."""
    if not work.cancelled():
        work.exception()


class _SliceReader:
    def __init__(
        self, consumer: Consumer, wanted: Filter, begin: dict[Part, int], stop: dict[Part, int]
    ) -> None:
        self._consumer = consumer
        self._wanted = wanted
        self._stop = stop
        self._reached = dict(begin)
        self._open = {part for part, offset in begin.items() if offset < stop[part]}
        self._records: list[Record] = []
        self._count = 0
        self._bytes = 0

    def read(self, closing: threading.Event) -> Slice:
        parts = [TopicPartition(*part, self._reached[part]) for part in sorted(self._open)]
        self._consumer.assign(parts)
        # A part that an earlier slice of this consumer paused is still paused after an assign.
        self._consumer.resume(parts)
        silent_since = time.monotonic()
        while self._open and self._count < SLICE_RECORDS_MAX and self._bytes < SLICE_BYTES_MAX:
            first = self._consumer.poll(POLL_SECONDS)
            if first is None:
                silent = time.monotonic() - silent_since
                if silent > SILENCE_SECONDS_MAX or closing.is_set():
                    raise BrokerUnavailable("broker: no records in time")
                continue
            silent_since = time.monotonic()
            room = min(SLICE_RECORDS_MAX - self._count, TAKEN_MAX)
            for message in (first, *self._consumer.consume(room, 0)):
                self._take(message)
        return Slice(self._records, self._reached)

    def _take(self, message: Message) -> None:
        part = (message.topic() or "", message.partition() or 0)
        offset, error = message.offset(), message.error()
        if error is not None:
            self._fault(part, offset, error)
        elif offset is not None and part in self._open:
            if offset < self._stop[part]:
                self._keep(message)
                self._reached[part] = offset + 1
            if offset + 1 >= self._stop[part]:
                self._finish(part)

    def _keep(self, message: Message) -> None:
        self._count += 1
        self._bytes += len(message.value() or b"")
        record = read_record(message)
        if record is not None and self._wanted.matches(record):
            self._records.append(record)

    def _finish(self, part: Part) -> None:
        self._open.discard(part)
        self._reached[part] = self._stop[part]
        self._consumer.pause([TopicPartition(*part)])

    def _fault(self, part: Part, offset: int | None, error: KafkaError) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own codes begin with _
            if part in self._open and offset is not None and offset >= self._stop[part]:
                self._finish(part)
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001 - as above
            raise Evicted
