"""The notifications process on a real broker, and a relay-like producer for it."""

import itertools
import json
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from tests.support.components import machine_environ
from tests.support.events import golden
from tests.support.system import wait_until
from tests.support.warm import Fork, forks

from shopstream_shared.clock import Uuid7Source, epoch_ms
from shopstream_shared.events.codec import EncodedEvent, encode
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topic_admin import ensure_topics
from shopstream_shared.topics import load_topics
from shopstream_stack.ports import PortReservations
from shopstream_stack.sse_client import SseConnection
from shopstream_stack.sse_parser import SseEvent

_sequence = itertools.count(1)


def an_event(
    event_type: str = "product.created",
    *,
    subject: str | None = None,
    seller: str = "s1",
    at: datetime | None = None,
) -> EncodedEvent:
    """An event with the golden data of its type."""
    return encode(
        event_type,
        event_id=Uuid7Source().new_id(),
        subject=subject or uuid.uuid4().hex,
        seller_id=seller,
        sequence=next(_sequence),
        time=at or datetime.now(UTC),
        data=json.dumps(json.loads(golden(event_type))["data"]).encode(),
    )


class Publisher:
    """One transactional producer, as the relay uses it."""

    def __init__(self, brokers: str, *, check: bool = True) -> None:
        connection = KafkaConnection(brokers, "test-relay")
        if check:
            ensure_topics(AdminClient(connection.admin()), load_topics("local").values())
        self._producer = Producer(connection.transactional_producer(f"test-{uuid.uuid4()}"))
        self._producer.init_transactions(30)

    def publish(self, *events: EncodedEvent) -> None:
        """All in one transaction, committed on return."""
        self.begin(events)
        self._producer.commit_transaction(30)

    def begin(self, events: Iterable[EncodedEvent]) -> None:
        """Write to the log and leave the transaction open."""
        self._producer.begin_transaction()
        for event in events:
            self._producer.produce(
                event.topic,
                event.value,
                key=event.subject,
                headers=[*event.headers],
                timestamp=epoch_ms(event.time),
            )
        self._producer.flush(30)

    def abort(self) -> None:
        self._producer.abort_transaction(30)

    def commit(self) -> None:
        self._producer.commit_transaction(30)

    def raw(self, topic: str, *values: bytes | None) -> None:
        """Records that are no events."""
        self._producer.begin_transaction()
        for value in values:
            self._producer.produce(topic, value, key="raw")
        self._producer.commit_transaction(30)


class StreamService:
    """One notifications process; ``with`` ends it."""

    def __init__(self, brokers: str, *, healthy: bool = True, **variables: str) -> None:
        self._wait_healthy = healthy
        self._ports = PortReservations()
        self.port = self._ports.take()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = tempfile.NamedTemporaryFile(prefix="shopstream-stream-", suffix=".log")  # noqa: SIM115 - closed with the service
        self._environ = {
            **machine_environ(),
            "KAFKA_BROKERS": brokers,
            "KAFKA_CLIENT_ID": "notifications-service",
            "PORT": str(self.port),
            "SHOPSTREAM_DRAIN_SECONDS": "1",
            **variables,
        }
        self._process: Fork | None = None

    def __enter__(self) -> Self:
        self.start(healthy=self._wait_healthy)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._log.close()
        self._ports.close()

    @property
    def process(self) -> Fork:
        assert self._process is not None
        return self._process

    def start(self, *, healthy: bool = True) -> None:
        self._process = forks("shopstream_notifications.main").start(
            ["shopstream-notifications"], self._environ, self._log.fileno()
        )
        if healthy:
            self.wait_health()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait_exit(self, seconds_max: float = 20.0) -> int:
        return self.process.wait(seconds_max)

    def restart(self) -> None:
        self.kill()
        self.start()

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=10, **arguments)

    def wait_health(self, status: int = 200, *, seconds_max: float = 30.0) -> httpx.Response:
        """Wait until ``/health`` answers with this status."""
        answers: list[httpx.Response] = []

        def as_wanted() -> bool:
            try:
                answers.append(self.get("/health"))
            except httpx.HTTPError:
                return False
            return answers[-1].status_code == status

        wait_until(as_wanted, f"/health to answer {status}", seconds_max=seconds_max)
        return answers[-1]

    async def connect(
        self,
        query: str = "",
        *,
        last_event_id: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> "Stream":
        """An open stream, read up to its ``stream.open``."""
        connection = await SseConnection.open(
            f"{self.url}/events/stream{query}", last_event_id=last_event_id, headers=headers
        )
        return Stream(connection)


@dataclass(slots=True)
class Seen:
    """An event and the moment it was read (seconds, monotonic)."""

    event: SseEvent
    at: float


class Stream:
    """One connection, read step by step with deadlines."""

    def __init__(self, connection: SseConnection) -> None:
        self.connection = connection
        self.seen: list[Seen] = []

    @property
    def events(self) -> list[SseEvent]:
        return [seen.event for seen in self.seen]

    @property
    def data(self) -> list[bytes]:
        """Values of the domain events, as bytes."""
        return [event.data.encode() for event in self.events if event.is_message]

    @property
    def last_id(self) -> str:
        return self.connection.last_event_id

    def named(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(event.data) for event in self.events if event.type == name]

    async def until(self, holds: Callable[[], object], seconds_max: float = 15.0) -> None:
        """Read on until it holds; AssertionError after the deadline or at the stream's end."""
        deadline = time.monotonic() + seconds_max
        self.connection._idle_seconds_max = seconds_max
        while not holds():
            assert time.monotonic() < deadline, f"in vain; seen: {self.events}"
            chunk = await self.connection.read()
            assert chunk, f"the stream ended; seen: {self.events}"
            self._take(chunk)

    async def opened(self) -> Self:
        """Read ``stream.open`` and the id that follows it."""
        await self.until(lambda: self.named("stream.open") and self.last_id)
        return self

    async def more(self, count: int) -> None:
        """Read until at least so many more events are there."""
        wanted = len(self.data) + count
        await self.until(lambda: len(self.data) >= wanted)

    async def got(self, events: Sequence[EncodedEvent], seconds_max: float = 15.0) -> None:
        """Read until these have come; fails unless they are all that came, each once."""
        wanted = sorted(event.value for event in events)
        await self.until(lambda: len(self.data) >= len(wanted), seconds_max)
        assert sorted(self.data) == wanted

    async def to_end(self, seconds_max: float = 20.0) -> None:
        """Read until the server ends the stream."""
        self.connection._idle_seconds_max = seconds_max
        while chunk := await self.connection.read():
            self._take(chunk)
        self.cut()

    def _take(self, chunk: bytes) -> None:
        now = time.monotonic()
        self.seen += [Seen(event, now) for event in self.connection.parser.feed(chunk)]

    def cut(self) -> None:
        self.connection.cut()
