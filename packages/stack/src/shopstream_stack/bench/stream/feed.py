"""Events for the stream straight to Kafka: the codec's envelope and headers, without an API.

A line is a subject with its own sequence, one seller and one type, so that what any filter lets
through is gapless too. Each feed has subjects of its own: what an earlier one sent cannot be taken
for its events.
"""

import itertools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, Message, Producer

from shopstream_shared.clock import SystemClock, epoch_ms
from shopstream_shared.events.codec import EncodedEvent, encode, encode_payload
from shopstream_shared.events.payloads import Inventory
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import INVENTORY
from shopstream_stack.errors import StackError

#: Those whose data are shortest: stock, of the shortest product there can be.
TYPES: Final = (
    "inventory.updated",
    "inventory.reserved",
    "inventory.released",
    "product.low_stock",
    "product.out_of_stock",
)
FLUSH_SECONDS_MAX: Final = 30.0
#: From here on the producer may wait a moment for more: a request an event costs the broker more
#: than all else that is measured.
BATCHED_RATE: Final = 250
BATCH_LINGER_MS: Final = 2

_feeds = itertools.count(1)


@dataclass(slots=True)
class Line:
    """One subject; ``sequence`` is that of its last event."""

    subject: str
    seller: str
    type: str
    sequence: int = 0


class Feed:
    """A producer at a steady pace. Raises StackError when the broker does not take an event."""

    def __init__(self, brokers: str, *, lines: int, sellers: int) -> None:
        number = next(_feeds)
        self.lines = [
            Line(f"{number:02x}{n:03x}", f"s{n % sellers:03}", TYPES[n % len(TYPES)])
            for n in range(lines)
        ]
        self._connection = KafkaConnection(brokers, "shopstream-bench")
        self._clock = SystemClock()
        self._turn = itertools.cycle(self.lines)
        self._producers: dict[int, Producer] = {}
        self._failed: KafkaError | None = None

    @property
    def event_bytes(self) -> int:
        """The size of an event's value."""
        return len(self._next(Line("00000", "s000", TYPES[0], 9_999)).value)

    def warm(self, rate: float) -> None:
        """Make the producer for this pace and send its first event.

        That one waits for metadata and a producer's id; the others are what is measured.
        """
        linger_ms = _linger_ms(rate)
        if linger_ms not in self._producers:
            config = self._connection.idempotent_producer() | {"linger.ms": linger_ms}
            self._producers[linger_ms] = Producer(config)
            self._send(self._producers[linger_ms])
            self._flush(self._producers[linger_ms])

    def run(self, rate: float, seconds: float) -> None:
        """Send ``rate`` events a second for so long; they are on the log afterwards."""
        self.warm(rate)
        producer = self._producers[_linger_ms(rate)]
        begin = time.monotonic()
        for number in range(round(rate * seconds)):
            due = begin + number / rate
            if time.monotonic() < due:
                producer.poll(0)
                time.sleep(max(0.0, due - time.monotonic()))
            self._send(producer)
        self._flush(producer)

    def expected(
        self, wanted: Callable[[Line], bool] = lambda line: True
    ) -> dict[str, tuple[int, int]]:
        """What a stream must have had that lets these lines through."""
        return {
            f"{INVENTORY} {line.subject}": (1, line.sequence)
            for line in self.lines
            if line.sequence and wanted(line)
        }

    def _next(self, line: Line) -> EncodedEvent:
        line.sequence += 1
        data = Inventory(
            product_id=line.subject,
            seller_id=line.seller,
            name="x",
            stock=1,
            delta=1,
            reason=None,
            order_id=None,
            threshold=None,
            inventory_version=line.sequence,
        )
        return encode(
            line.type,
            event_id=f"{line.subject}-{line.sequence}",
            subject=line.subject,
            seller_id=line.seller,
            sequence=line.sequence,
            time=self._clock.now(),
            data=encode_payload(data),
        )

    def _send(self, producer: Producer) -> None:
        event = self._next(next(self._turn))
        producer.produce(
            event.topic,
            event.value,
            event.subject,
            headers=[*event.headers],
            timestamp=epoch_ms(event.time),
            on_delivery=self._delivered,
        )

    def _flush(self, producer: Producer) -> None:
        if producer.flush(FLUSH_SECONDS_MAX) or self._failed is not None:
            raise StackError(f"Kafka did not take all events: {self._failed or 'time is over'}")

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._failed = self._failed or error


def _linger_ms(rate: float) -> int:
    return BATCH_LINGER_MS if rate >= BATCHED_RATE else 0


def of_types(types: Collection[str]) -> Callable[[Line], bool]:
    """Lines that a filter of these types lets through."""
    return lambda line: line.type in types


def of_seller(seller: str) -> Callable[[Line], bool]:
    """Lines that a filter of this seller lets through."""
    return lambda line: line.seller == seller


def type_filters(count: int) -> Sequence[str]:
    """So many different ``types``, each letting three of the five types through that are fed.

    They differ by which three, and by types that nobody feeds.
    """
    threes = list(itertools.combinations(TYPES, 3))
    others = ["product.created", "product.deleted", "order.paid", "order.shipped", "order.refunded"]
    subsets = [
        subset for size in range(len(others) + 1) for subset in itertools.combinations(others, size)
    ]
    pairs = itertools.islice(itertools.product(subsets, threes), count)
    return [",".join((*three, *subset)) for subset, three in pairs]
