"""Follows the log as any consumer of committed records would, on a thread of its own."""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from shopstream_shared.clock import Clock, epoch_ms
from shopstream_shared.kafka import KafkaConnection
from shopstream_stack.demo.evidence import WatcherReading
from shopstream_stack.demo.log_reader import LogReader
from shopstream_stack.demo.oracle import ExpectedEvent

POLL_SECONDS: Final = 0.1
MESSAGES_MAX: Final = 1_000
JOIN_SECONDS_MAX: Final = 10.0
#: An event that seems to be older, or of times to come, was made while a clock was wrong.
WAITED_MS_MAX: Final = 600_000


class Tail:
    """What has become visible on the stream topics since ``start``.

    Attributes are written by the thread alone and replaced whole or only grow, so that others may
    read them at any time.
    """

    def __init__(self, brokers: str, clock: Clock) -> None:
        self._clock = clock
        self._reader = LogReader(brokers)
        self._config = KafkaConnection(brokers, "shopstream-chaos").consumer("shopstream-chaos")
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._counts: Counter[tuple[str, str]] = Counter()
        #: Of the present topics, (place, offset, type, seller), from when they were made anew.
        self._anew: list[tuple[tuple[str, int], int, str, str]] = []
        self.published = 0
        #: Where each partition's next event is to come: no offset below it is missing here.
        self.positions: dict[tuple[str, int], int] = {}
        #: Time of the newest event seen that a right clock made, in epoch milliseconds.
        self.newest_ms = 0
        #: The longest wait from an event's time to its arrival here since it was last taken.
        self._slowest_seconds = 0.0

    def start(self) -> None:
        """Begin where the topics end now. Raises KafkaException."""
        self._follow(self._reader.ends())

    def follow_again(self, *, new_topics: bool = False) -> None:
        """Take in partitions that were added, from their first event; with ``new_topics`` all
        partitions are such. Raises KafkaException."""
        self.stop()
        known = {} if new_topics else self.positions
        if new_topics:
            self._anew = []
        self._follow({place: known.get(place, 0) for place in self._reader.ends()})

    def stop(self) -> None:
        """End the thread; what it has counted stays."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS_MAX)

    def _follow(self, positions: dict[tuple[str, int], int]) -> None:
        self.positions = positions
        self._end = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._end,), name="chaos-tail", daemon=True
        )
        self._thread.start()

    def matching(self, reading: WatcherReading) -> int:
        """How many events a client with this filter must have by now."""
        return sum(
            count
            for (event_type, seller), count in list(self._counts.items())
            if reading.wants(ExpectedEvent("", "", 0, event_type, seller))
        )

    def ends(self) -> Mapping[tuple[str, int], int]:
        """Where each partition ends now. Raises KafkaException."""
        return self._reader.ends()

    def matching_below(self, reading: WatcherReading, ends: Mapping[tuple[str, int], int]) -> int:
        """As `matching`, of the present topics alone, since they were made, below these offsets."""
        return sum(
            offset < ends.get(place, 0)
            and reading.wants(ExpectedEvent("", "", 0, event_type, seller))
            for place, offset, event_type, seller in list(self._anew)
        )

    def take_slowest(self) -> float:
        """From commit to here, in seconds, the slowest since the last call."""
        slowest, self._slowest_seconds = self._slowest_seconds, 0.0
        return slowest

    def _run(self, end: threading.Event) -> None:
        consumer = Consumer(self._config)
        try:
            consumer.assign([TopicPartition(t, p, at) for (t, p), at in self.positions.items()])
            while not end.is_set():
                # One poll with the time-out: consume() would wait for a full list.
                for message in consumer.consume(1, POLL_SECONDS) + consumer.consume(
                    MESSAGES_MAX, 0
                ):
                    self._take(message)
        finally:
            consumer.close()

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal():
                raise KafkaException(error)
            return  # a broker that is away; the client goes on by itself
        headers = dict(message.headers() or ())
        event_type, seller = (_text(headers.get(name)) for name in ("ce_type", "ce_sellerid"))
        at_ms = message.timestamp()[1]
        self._counts[event_type, seller] += 1
        place = str(message.topic()), int(message.partition() or 0)
        offset = int(message.offset() or 0)
        self._anew.append((place, offset, event_type, seller))
        self.positions[place] = offset + 1
        self.published += 1
        waited_ms = epoch_ms(self._clock.now()) - at_ms
        if 0 <= waited_ms <= WAITED_MS_MAX:
            self.newest_ms = max(self.newest_ms, at_ms)
            self._slowest_seconds = max(self._slowest_seconds, waited_ms / 1_000)


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
