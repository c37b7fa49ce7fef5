"""Events into Kafka: a backlog that becomes visible at once, or transactions at a pace."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import KafkaError, Message, Producer

from shopstream_shared.clock import epoch_ms
from shopstream_shared.events.codec import EncodedEvent
from shopstream_shared.kafka import KafkaConnection
from shopstream_stack.bench.analytics.events import Shop
from shopstream_stack.bench.analytics.place import Place
from shopstream_stack.errors import StackError

STEP_SECONDS_MAX: Final = 60.0
#: Longer than a backlog takes to be sent: it is one transaction.
BACKLOG_TIMEOUT_MS: Final = 600_000
#: What the producer holds; when it is full, sending waits.
QUEUE_MESSAGES_MAX: Final = 100_000
POLL_EVERY: Final = 500
#: Transactions in flight at a pace, each by a producer of its own: one commit takes some 3 to 20
#: ms, and 333 a second are asked for.
LANES: Final = 4
#: librdkafka's word for "as the key says".
ANY_PARTITION: Final = -1


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one transaction brought: where each partition began and ended before its marker."""

    starts: Mapping[Place, int]
    ends: Mapping[Place, int]
    #: When commit had returned, monotonic.
    committed_at: float

    @property
    def events(self) -> int:
        return sum(end - self.starts[place] for place, end in self.ends.items())

    def done(self, positions: Mapping[Place, int]) -> int:
        """How many of the events lie below these positions."""
        return sum(
            min(max(positions.get(place, 0), start), self.ends[place]) - start
            for place, start in self.starts.items()
        )


class BacklogFeed:
    """Sends backlogs. Raises StackError when the broker does not take one."""

    def __init__(self, brokers: str) -> None:
        #: Of the present backlog, the first and the last offset of each partition.
        self._offsets: dict[Place, tuple[int, int]] = {}
        self._failed: KafkaError | None = None
        connection = KafkaConnection(brokers, "shopstream-bench")
        self._producer = Producer(
            connection.transactional_producer("bench-backlog")
            | {
                "transaction.timeout.ms": BACKLOG_TIMEOUT_MS,
                "message.timeout.ms": BACKLOG_TIMEOUT_MS,
                "queue.buffering.max.messages": QUEUE_MESSAGES_MAX,
                "linger.ms": 20,
                "batch.size": 1_000_000,
            }
        )
        self._producer.init_transactions(STEP_SECONDS_MAX)

    def send(self, events: Iterable[EncodedEvent], *, spread_over: int = 0) -> Backlog:
        """One transaction. ``spread_over``: so many partitions in turn, whatever the keys are."""
        self._offsets = {}
        self._producer.begin_transaction()
        for number, event in enumerate(events):
            self._send(event, number % spread_over if spread_over else ANY_PARTITION)
            if not number % POLL_EVERY:
                self._producer.poll(0)
        if self._producer.flush(STEP_SECONDS_MAX) or self._failed is not None:
            raise StackError(f"Kafka did not take a backlog: {self._failed or 'time is over'}")
        self._producer.commit_transaction(STEP_SECONDS_MAX)
        committed_at = time.monotonic()
        starts = {place: first for place, (first, _) in self._offsets.items()}
        ends = {place: last + 1 for place, (_, last) in self._offsets.items()}
        return Backlog(starts, ends, committed_at)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed = self._failed or error
            return
        place = (str(message.topic()), int(message.partition() or 0))
        offset = int(message.offset() or 0)
        first, last = self._offsets.get(place, (offset, offset))
        # A transaction's records follow each other: nobody else writes here.
        self._offsets[place] = (min(first, offset), max(last, offset))

    def _send(self, event: EncodedEvent, partition: int) -> None:
        while True:
            try:
                self._producer.produce(
                    event.topic,
                    event.value,
                    event.subject,
                    partition,
                    headers=[*event.headers],
                    timestamp=epoch_ms(event.time),
                    on_delivery=self._delivered,
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return


@dataclass(frozen=True, slots=True)
class Committed:
    """One event: where it is, and when the commit of its transaction had returned."""

    place: Place
    offset: int
    at: float


@dataclass(slots=True)
class PacedFeed:
    """Transactions of a few stock events at a steady pace, by LANES producers side by side."""

    brokers: str
    products: int
    committed: list[Committed] = field(default_factory=list)

    def run(self, pace: int, transaction: int, seconds: float) -> float:
        """Send so many events a second; returns how long it took. Raises StackError."""
        producers = [self._producer(lane) for lane in range(LANES)]
        begin = time.monotonic()
        every = transaction * LANES / pace
        with ThreadPoolExecutor(LANES) as pool:
            jobs = [
                pool.submit(
                    self._lane,
                    producer,
                    transaction,
                    [begin + (n + lane / LANES) * every for n in range(int(seconds / every))],
                )
                for lane, producer in enumerate(producers)
            ]
        for job in jobs:
            job.result()
        return time.monotonic() - begin

    def _producer(self, lane: int) -> Producer:
        connection = KafkaConnection(self.brokers, "shopstream-bench")
        settings = connection.transactional_producer(f"bench-paced-{lane}")
        producer = Producer(settings | {"linger.ms": 0})
        producer.init_transactions(STEP_SECONDS_MAX)
        return producer

    def _lane(self, producer: Producer, transaction: int, due: list[float]) -> None:
        shop = Shop(self.products)
        events = shop.stock(len(due) * transaction)
        for moment in due:
            time.sleep(max(0.0, moment - time.monotonic()))
            self._commit(producer, [next(events) for _ in range(transaction)])

    def _commit(self, producer: Producer, events: list[EncodedEvent]) -> None:
        sent: list[tuple[Place, int]] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                place = (str(message.topic()), int(message.partition() or 0))
                sent.append((place, int(message.offset() or 0)))

        producer.begin_transaction()
        for event in events:
            producer.produce(
                event.topic,
                event.value,
                event.subject,
                headers=[*event.headers],
                timestamp=epoch_ms(event.time),
                on_delivery=delivered,
            )
        producer.flush(STEP_SECONDS_MAX)
        producer.commit_transaction(STEP_SECONDS_MAX)
        at = time.monotonic()
        if len(sent) < len(events):
            raise StackError("Kafka did not take all events of a transaction")
        self.committed += [Committed(place, offset, at) for place, offset in sent]
