"""The canary: a record that this process produces and must see come back through its own reader.

It shows what no other check can: that the broker takes records, that they are committed and
fetched, and that the reader's thread still hands to the loop. Each worker has its own, on a topic
that no client can ask for; canaries are in no position, no id and no committed group.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from confluent_kafka import KafkaException, Producer

from shopstream_notifications.broker import QUIET, BrokerUnavailable
from shopstream_notifications.metrics import Metrics
from shopstream_notifications.records import Part
from shopstream_notifications.source import Batch, Started
from shopstream_shared.health import Unhealthy
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.logs import get_logger
from shopstream_shared.topics import CANARY

#: So many canaries may be missed, and so many seconds more pass, before the check says so.
MISSED_MAX: Final = 3
GRACE_SECONDS: Final = 5.0
#: Canaries on their way at a time; older ones are given up.
PENDING_MAX: Final = 64
PART: Final[Part] = (CANARY, 0)

_log = get_logger(__name__)


class Topics(Protocol):
    """Blocking; may raise BrokerUnavailable."""

    def exists(self, topic: str) -> bool: ...


class Following(Protocol):
    """What the reader feeds."""

    def started(self, started: Started) -> None: ...

    def deliver(self, batch: Batch) -> None: ...

    def lost(self) -> None: ...


class Canary:
    """Lives in the loop."""

    def __init__(
        self,
        connection: KafkaConnection,
        topics: Topics,
        metrics: Metrics,
        *,
        seconds: float,
    ) -> None:
        self._config = {
            **connection.idempotent_producer(),
            **QUIET,
            "linger.ms": 0,
            "queue.buffering.max.messages": PENDING_MAX,
        }
        self._topics = topics
        self._metrics = metrics
        self._seconds = seconds
        #: Other workers' canaries come by too.
        self._name = uuid.uuid4().hex
        self._number = 0
        self._sent: dict[bytes, float] = {}
        self._seen_at = time.monotonic()
        self._round_trip: float | None = None
        self._missing = True

    @property
    def late_seconds(self) -> float:
        """Without a canary for longer than this something on its way is broken."""
        return MISSED_MAX * self._seconds + GRACE_SECONDS

    async def run(self, follow: Callable[[Part], None]) -> None:
        """Send one every ``seconds``, for ever; ``follow`` makes the reader read its part."""
        producer: Producer | None = None
        while True:
            if self._missing and await self._topic_exists():
                self._missing = False
                follow(PART)
            if not self._missing:
                producer = producer or Producer(self._config)
                self._send(producer)
            await asyncio.sleep(self._seconds)

    async def probe(self) -> str:
        """The health check. Raises Unhealthy."""
        silent = time.monotonic() - self._seen_at
        if silent > self.late_seconds:
            why = f"topic {CANARY} does not exist" if self._missing else "nothing comes through"
            raise Unhealthy(f"{why}; no canary for {silent:.0f} s")
        if self._round_trip is None:
            return "none has come through yet"
        return f"round trip {self._round_trip * 1_000:.0f} ms"

    def seen(self, canaries: Iterable[bytes]) -> None:
        """What the reader found on the canary's part; called in the loop."""
        now = time.monotonic()
        for value in canaries:
            sent_at = self._sent.pop(value, None)
            if sent_at is not None:
                self._seen_at, self._round_trip = now, now - sent_at
                self._metrics.canary.observe(now - sent_at)

    async def _topic_exists(self) -> bool:
        try:
            return await asyncio.to_thread(self._topics.exists, CANARY)
        except BrokerUnavailable:
            return False

    def _send(self, producer: Producer) -> None:
        self._number += 1
        value = f"{self._name} {self._number}".encode()
        self._sent[value] = time.monotonic()
        if len(self._sent) > PENDING_MAX:
            del self._sent[next(iter(self._sent))]
        try:
            producer.produce(CANARY, value, partition=PART[1])
            producer.poll(0)  # or reports of earlier ones would pile up
        except (BufferError, KafkaException) as error:
            # The check says so when it lasts.
            _log.warning("stream.canary_not_sent", error=type(error).__name__)


class WatchedSink:
    """The hub, with an eye on the canaries that come by in its batches."""

    def __init__(self, sink: Following, canary: Canary) -> None:
        self._sink = sink
        self._canary = canary

    def started(self, started: Started) -> None:
        self._sink.started(started)

    def deliver(self, batch: Batch) -> None:
        if batch.position:
            self._sink.deliver(batch)
        if batch.canaries:
            self._canary.seen(batch.canaries)

    def lost(self) -> None:
        self._sink.lost()
