"""The one Kafka reader of a process: a thread that hands batches to the event loop.

Guarantees:

- Assigned to all partitions from offsets asked of the broker before the first id is given, never
  "latest": a quiet partition resumes where it was. Read committed, from the last stable offset, so
  that a transaction open at start is delivered once it commits.
- No group membership: every replica sees everything. It still commits its position to the group
  ``notifications-service``, over transaction markers too, so that lag is visible and reads 0 when
  there is nothing left (protocol rule 30). Of several workers the one whose turn it is does so.
- One hand-over to the loop a batch, at most HANDOVERS_MAX waiting: a busy loop slows the reader.
- ``poll`` waits, ``consume(n, 0)`` then takes what is there: ``consume(n, timeout)`` alone would
  wait for n records or the whole time (25 ms at p50, measured).
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from shopstream_notifications.broker import (
    QUIET,
    Broker,
    BrokerUnavailable,
    TopicsMissing,
    Topology,
)
from shopstream_notifications.records import Part, read_record
from shopstream_notifications.source import Batch, Source, SourceState, Started
from shopstream_shared.kafka import Config, KafkaConnection
from shopstream_shared.logs import get_logger

GROUP: Final = "notifications-service"
BATCH_RECORDS_MAX: Final = 1_000
HANDOVERS_MAX: Final = 8
#: How long one poll may wait: bounds how late a stop or a commit is noticed.
POLL_SECONDS: Final = 0.1
COMMIT_EVERY_SECONDS: Final = 1.0
#: How long the last commit waits for the answer to the one before it.
LAST_COMMIT_SECONDS_MAX: Final = 0.5
RETRY_SECONDS: Final = 1.0
#: Closing waits for a commit that a silent broker never answers. With what connections get after
#: the drain it stays below the promised five seconds.
STOP_SECONDS_MAX: Final = 2.0
#: An error is said this often while it lasts: a client tries again 20 times a second.
SAID_SECONDS: Final = 10.0
#: What librdkafka may hold for us beside the hand-overs.
FETCH_QUEUE_KBYTES: Final = 16_384

_POSITION_LOST: Final = (
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - librdkafka's own codes begin with _
    KafkaError.OFFSET_OUT_OF_RANGE,
)

_log = get_logger(__name__)


class Sink(Protocol):
    """What the reader feeds; called in the event loop, in order."""

    def started(self, started: Started) -> None:
        """A first start, or a new one after ``lost``."""
        ...

    def deliver(self, batch: Batch) -> None:
        """The next records."""
        ...

    def lost(self) -> None:
        """The next records cannot be had any more; a new start follows."""
        ...


class _PositionLost(Exception):
    """The broker no longer has the offset that we would read next."""


class StreamConsumer:
    """Runs in its own thread from ``start`` to ``stop``; ``died`` resolves if it ever fails."""

    def __init__(
        self,
        connection: KafkaConnection,
        broker: Broker,
        source: Source,
        sink: Sink,
        *,
        may_commit: Callable[[], bool] = lambda: True,
    ) -> None:
        self.may_commit = may_commit
        self._config = reader_config(connection)
        self._broker = broker
        self._source = source
        self._sink = sink
        self._stop = threading.Event()
        self._verify = threading.Event()
        self._stalled = threading.Event()
        self._places = threading.Semaphore(HANDOVERS_MAX)
        self._added: SimpleQueue[tuple[Part, ...]] = SimpleQueue()
        #: When each kind of error was logged last.
        self._said: dict[str, float] = {}
        #: Read from its end, beside the stream's parts; set once, from the loop.
        self.beside: Part | None = None
        self._thread = threading.Thread(target=self._guarded, name="stream-consumer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._died: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Start the thread and wait; raises what ended it."""
        self._loop = asyncio.get_running_loop()
        self._died = self._loop.create_future()
        self._thread.start()
        try:
            await self._died
        finally:
            await self._end()

    def add_parts(self, parts: tuple[Part, ...]) -> None:
        """Read these partitions too, from 0: they were added to a topic (protocol rule 14)."""
        self._added.put(parts)

    def read_anew(self) -> None:
        """Go on with a new client of the library where this one stands: it reads nothing."""
        self._stalled.set()

    def read_beside(self, part: Part) -> None:
        """Hand over what comes on this part too, as canaries: outside positions and commits."""
        self.beside = part

    async def _end(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join, STOP_SECONDS_MAX)

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - handed to run(), which ends the process
            self._post(self._fail, error)

    def _fail(self, error: Exception) -> None:
        if self._died is not None and not self._died.done():
            self._died.set_exception(error)

    def _run(self) -> None:
        while not self._stop.is_set() and self._source.state is not SourceState.RECREATED:
            try:
                started = self._locate()
            except (BrokerUnavailable, TopicsMissing) as error:
                self._source.set(SourceState.UNAVAILABLE, str(error))
                self._stop.wait(RETRY_SECONDS)
                continue
            reader = _Reader(started, self)
            self._post(self._sink.started, started)
            self._source.set(SourceState.RUNNING)
            try:
                while not self.ended():
                    self._read(reader)
            except _PositionLost as error:
                # So a topic made anew shows itself, too, as long as it is shorter than the old one.
                self._verify.set()
                if not self.still_the_same(started.topology):
                    continue
                _log.warning("stream.position_lost", reason=str(error))
                self._source.set(SourceState.UNAVAILABLE, str(error))
                self._post(self._sink.lost)

    def _read(self, reader: "_Reader") -> None:
        """With one client of the library, until the end or until it stalls. Raises as `read`."""
        self._stalled.clear()
        consumer = Consumer(
            {**self._config, "error_cb": self.on_error, "on_commit": reader.on_commit}
        )
        try:
            reader.begin(consumer)
            reader.read()
        finally:
            consumer.close()

    def _locate(self) -> Started:
        topology = self._broker.topology()
        return Started(topology, self._broker.stable_ends(topology.parts))

    def ended(self) -> bool:
        """Whether the reader is to stop."""
        return self._stop.is_set() or self._source.state is SourceState.RECREATED

    def stalled(self) -> bool:
        """Whether the client of the library is to be replaced."""
        return self._stalled.is_set()

    def added(self) -> tuple[Part, ...]:
        """Partitions to read from now on."""
        try:
            return self._added.get_nowait()
        except Empty:
            return ()

    def still_the_same(self, topology: Topology) -> bool:
        """After any error, before records are handed over: are these still our topics?

        Offsets of a topic made anew would be taken for the old one's. Waits for the broker.
        """
        while self._verify.is_set() and not self.ended():
            try:
                epoch = self._broker.topology().epoch
            except (BrokerUnavailable, TopicsMissing):
                self._stop.wait(RETRY_SECONDS)
                continue
            self._verify.clear()
            if epoch != topology.epoch:
                self._source.set(SourceState.RECREATED, "topic_recreated")
        return not self.ended()

    def on_error(self, error: KafkaError) -> None:
        self._verify.set()
        code, now = error.name(), time.monotonic()
        if now - self._said.get(code, -math.inf) >= SAID_SECONDS:
            self._said[code] = now
            _log.warning("stream.broker_error", code=code)

    def hand_over(self, batch: Batch) -> None:
        """Give a batch to the loop; waits while it has enough."""
        while not self._places.acquire(timeout=POLL_SECONDS):
            if self._stop.is_set():
                return
        self._post(self._take, batch)

    def _take(self, batch: Batch) -> None:
        self._places.release()
        self._sink.deliver(batch)

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        if self._loop is None or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(call, *arguments)


class _Reader:
    """Polls an assigned consumer, one after the other, keeps the position, commits it."""

    # Of one consumer: made anew by each `begin`.
    _consumer: Consumer
    _uncommitted: dict[Part, int]
    #: One at a time: while the coordinator is looked for, several would wait, and they may come
    #: through in any order, the oldest last.
    _is_committing: bool
    _beside: Part | None

    def __init__(self, started: Started, owner: StreamConsumer) -> None:
        self._topology = started.topology
        self._owner = owner
        self._position = dict(started.position)
        self._commit_at = time.monotonic()

    def begin(self, consumer: Consumer) -> None:
        """Take all parts from where we stand; commits go by the same consumer."""
        self._consumer = consumer
        # Of another consumer before this one nothing may ever be answered.
        self._uncommitted, self._is_committing, self._beside = dict(self._position), False, None
        consumer.assign([TopicPartition(*part, offset) for part, offset in self._position.items()])

    def read(self) -> None:
        """Until the owner ends it or the consumer stalls. Raises _PositionLost."""
        while not self._owner.ended():
            if self._owner.stalled():
                return
            first = self._consumer.poll(POLL_SECONDS)
            if parts := self._owner.added():
                self._add(parts)
            if self._beside is None and self._owner.beside is not None:
                self._beside = self._owner.beside
                self._consumer.incremental_assign([TopicPartition(*self._beside, OFFSET_END)])
            if first is not None:
                self._batch([first, *self._consumer.consume(BATCH_RECORDS_MAX - 1, 0)])
            if time.monotonic() >= self._commit_at:
                self._commit()
        deadline = time.monotonic() + LAST_COMMIT_SECONDS_MAX
        while self._is_committing and time.monotonic() < deadline:
            self._consumer.poll(POLL_SECONDS)  # for the answer; what is read now is nobody's
        self._commit()

    def _add(self, added: tuple[Part, ...]) -> None:
        # A new start may have found them already; to assign one twice is an error.
        parts = tuple(part for part in added if part not in self._position)
        self._consumer.incremental_assign([TopicPartition(*part, 0) for part in parts])
        self._position.update(dict.fromkeys(parts, 0))
        self._uncommitted.update(dict.fromkeys(parts, 0))

    def _batch(self, messages: list[Message]) -> None:
        records = []
        canaries: list[bytes] = []
        moved: dict[Part, int] = {}
        for message in messages:
            part = (message.topic() or "", message.partition() or 0)
            if part == self._beside:
                # Its errors too end here: they must not move, nor stop, the stream.
                if message.error() is None:
                    canaries.append(message.value() or b"")
                continue
            next_offset = self._next_offset(message)
            if next_offset is None or next_offset <= self._position.get(part, 0):
                continue
            moved[part] = next_offset
            if message.error() is None and (record := read_record(message)) is not None:
                records.append(record)
        if (moved or canaries) and self._owner.still_the_same(self._topology):
            self._position.update(moved)
            self._uncommitted.update(moved)
            self._owner.hand_over(Batch(records, moved, tuple(canaries)))

    def _next_offset(self, message: Message) -> int | None:
        """Where the part stands after this message; None for an error that moves nothing."""
        offset, error = message.offset(), message.error()
        if error is None:
            return None if offset is None else offset + 1
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own codes
            # Its offset is past the transaction markers, which no record shows.
            return offset
        if error.code() in _POSITION_LOST:
            raise _PositionLost("offset_out_of_range")
        self._owner.on_error(error)
        return None

    def _commit(self) -> None:
        self._commit_at = time.monotonic() + COMMIT_EVERY_SECONDS
        if self._is_committing or not self._uncommitted or not self._owner.may_commit():
            return
        offsets = [TopicPartition(*part, offset) for part, offset in self._uncommitted.items()]
        self._uncommitted = {}
        self._is_committing = True
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self.on_commit(error.args[0], offsets)

    def on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        """Commit again what the broker did not take: on a quiet topic nothing else would."""
        self._is_committing = False
        refused = [o for o in offsets if error is not None or o.error is not None]
        for offset in refused:
            self._uncommitted.setdefault((offset.topic, offset.partition), offset.offset)
        if refused:
            # The group only shows lag; nothing resumes from it.
            first = error or refused[0].error
            code = first.name() if first is not None else ""
            _log.warning("stream.commit_failed", code=code, parts=len(refused))


def reader_config(connection: KafkaConnection) -> Config:
    """The live reader's settings."""
    return {
        **connection.consumer(GROUP),
        **QUIET,
        "enable.partition.eof": True,
        "queued.max.messages.kbytes": FETCH_QUEUE_KBYTES,
    }
