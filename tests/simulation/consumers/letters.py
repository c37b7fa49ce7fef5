"""Kafka's blocking clients as the dead letters use them, in a simulated process.

They run in fibers (the service gives them a thread). As librdkafka: `init_transactions` and
`commit_transaction` are repeated within their time, everything else fails at once here.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from tests.simulation.broker import Broker, Busy, FencedOff
from tests.simulation.consumers.log import Entry
from tests.simulation.consumers.machine import Machine, Refusal, Unanswered
from tests.simulation.consumers.pieces import Piece

from shopstream_shared.topics import DEAD_LETTER

T = TypeVar("T")

ASK_AGAIN_SECONDS: Final = 0.1
_PLACE: Final = (DEAD_LETTER, 0)


class Message(NamedTuple):
    """A message as confluent's consumer gives it."""

    where: int
    entry: Entry

    def error(self) -> None:
        return None

    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        return self.entry.headers


class SimProducer:
    """A transactional producer."""

    def __init__(
        self, machine: Machine, broker: Broker, settings: dict[str, Any], without: Piece | None
    ) -> None:
        self._machine = machine
        self._broker = broker
        self._id = str(settings["transactional.id"])
        if without is Piece.LETTER_FENCING:
            self._id += f"-{machine.world.number()}"
        self._epoch = -1
        self._sent: list[Entry] = []

    def init_transactions(self, seconds: float) -> None:
        self._epoch = self._repeated("init letters", seconds, lambda: self._broker.init(self._id))

    def begin_transaction(self) -> None:
        self._sent = []

    def produce(
        self,
        _topic: str,
        *,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, Any]],
    ) -> None:
        self._sent.append(Entry(key, value, list(headers), 0))

    def commit_transaction(self, seconds: float) -> None:
        sent = self._sent

        def produce() -> object:
            return self._broker.produce(self._id, self._epoch, _PLACE, sent)

        def commit() -> None:
            self._broker.end(self._id, self._epoch, commit=True)

        self._machine.note("sends letters", len(sent))
        # Not repeated: the model's broker does not know a repetition from a second record.
        self._once("produce letters", produce)
        self._repeated("commit letters", seconds, commit)

    def _once(self, name: str, request: Callable[[], T]) -> T:
        try:
            return self._machine.blocking_call(name, request)
        except FencedOff:
            raise KafkaException(KafkaError(KafkaError._FENCED)) from None
        except (Unanswered, Refusal, Busy):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None

    def _repeated(self, name: str, seconds: float, request: Callable[[], T]) -> T:
        world = self._machine.world
        deadline = world.now + seconds
        while True:
            try:
                return self._machine.blocking_call(name, request)
            except FencedOff:
                raise KafkaException(KafkaError(KafkaError._FENCED)) from None
            except (Unanswered, Refusal, Busy):
                if world.now > deadline:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
                self._machine.wait(ASK_AGAIN_SECONDS)


class _Topic(NamedTuple):
    partitions: dict[int, None]


class _Metadata(NamedTuple):
    topics: dict[str, _Topic]


class SimConsumer:
    """A consumer of committed records, by assignment."""

    def __init__(self, machine: Machine, broker: Broker, without: Piece | None) -> None:
        self._machine = machine
        self._partition = broker.partitions[_PLACE]
        self._without = without
        self._position = 0

    def list_topics(self, _topic: str, _seconds: float) -> _Metadata:
        return _Metadata({DEAD_LETTER: _Topic({0: None})})

    def get_watermark_offsets(self, _where: TopicPartition, _seconds: float) -> tuple[int, int]:
        if self._without is Piece.LETTER_SCAN:
            return 0, 0
        try:
            return self._machine.blocking_call("watermarks", lambda: (0, self._partition.end))
        except (Unanswered, Refusal):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None

    def assign(self, where: list[TopicPartition]) -> None:
        self._position = where[0].offset

    def position(self, _where: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(*_PLACE, self._position)]

    def consume(self, most: int, timeout: float) -> list[Message]:
        """At most so many; none after the time, the position then being at what is stable."""
        self._machine.wait(timeout if self._position >= self._partition.stable else 0.01)
        found = [
            Message(offset, entry)
            for offset, entry in self._partition.committed()
            if offset >= self._position
        ][:most]
        self._position = found[-1].where + 1 if found else self._partition.stable
        return found

    def close(self) -> None:
        """Nothing is open."""
