"""One API process of a test: its own database, its own transactional id, a free port."""

import json
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import psycopg
from confluent_kafka import Consumer, KafkaError, TopicPartition
from tests.support import invariants
from tests.support.app import migrated_database
from tests.support.components import LocalComponents
from tests.support.system import wait_until
from tests.support.warm import Fork, forks

from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.ports import PortReservations

COMMAND: Final = str(Path(sys.executable).parent / "shopstream-api")
WAIT_SECONDS_MAX: Final = 30.0
#: The contract says 10 s; tests allow three times that.
STOP_SECONDS_MAX: Final = 30.0


class ApiProcess:
    """`shopstream-api` as a process (of `tests.support.warm`); `start` may be called again.

    At the end of its block the database must hold all invariants, unless the test says that it
    wrote there past the API: ``checked`` is False then.
    """

    checked = True

    def __init__(self, environ: Mapping[str, str], patches: Sequence[str] = ()) -> None:
        """``patches`` are functions of `tests.support.sabotage`, for each start."""
        self._ports = PortReservations()
        self.port = self._ports.take()
        self.environ = {**environ, "PORT": str(self.port)}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self._patches = patches
        self._process: Fork | None = None

    @classmethod
    def beside(cls, components: LocalComponents, **environ: str) -> Self:
        """On a fresh, migrated database of the components; not started yet."""
        components.up("postgres")
        return cls(
            {
                **components.environ_of(),
                "DATABASE_URL": migrated_database(components),
                "KAFKA_TRANSACTIONAL_ID": f"test-{uuid.uuid4().hex}",
                **environ,
            }
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self.client.close()
        self._ports.close()
        if kind is None and self.checked:
            invariants.check(self.database_url)

    @property
    def database_url(self) -> str:
        return self.environ["DATABASE_URL"]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(
        self, *, path: str | None = "/health/ready", patches: Sequence[str] = (), **environ: str
    ) -> Self:
        """Start it and wait until ``path`` answers 200; None = do not wait.

        ``patches`` come after those of every start.
        """
        self._process = forks("shopstream_api.main").start(
            [COMMAND], {**self.environ, **environ}, patches=[*self._patches, *patches]
        )
        if path is not None:
            wait_until(lambda: self.answers(path), f"{path} answers 200")
        return self

    def answers(self, path: str, status: int = 200) -> bool:
        try:
            return self.client.get(path).status_code == status
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(STOP_SECONDS_MAX)

    def died(self) -> int:
        """Wait until it has ended by itself; returns the exit code."""
        assert self._process is not None
        return self._process.wait(WAIT_SECONDS_MAX)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def product(self, **members: Any) -> dict[str, Any]:
        """Create a product; returns its body."""
        body = {"name": "Test Product", "price": 99.99, "sellerId": "seller1", **members}
        answer = self.client.post("/products", json=body)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def order(self, *lines: tuple[str, int]) -> httpx.Response:
        """Place an order of (product id, quantity) lines."""
        items = [{"productId": pid, "quantity": count} for pid, count in lines]
        return self.client.post("/orders", json={"customerId": "c1", "items": items})

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows from the API's own database."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def execute(self, statement: str, *parameters: object) -> None:
        """A statement on the API's own database."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement.encode(), parameters)

    def drained(self) -> None:
        """Wait until the outbox is empty."""
        wait_until(
            lambda: self.query("SELECT count(*) FROM outbox") == [(0,)], "the outbox is empty"
        )


@dataclass(frozen=True, slots=True)
class Published:
    """One committed record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str
    headers: dict[str, str]
    value: bytes

    @property
    def event(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.value)
        return decoded

    @property
    def type(self) -> str:
        return self.headers["ce_type"]

    @property
    def sequence(self) -> int:
        return int(self.headers["ce_sequence"])


def published(
    brokers: str, *subjects: str, topics: Sequence[str] = STREAM_TOPICS
) -> list[Published]:
    """All committed events of these subjects, topic by topic, each in the order of its log."""
    with _reader(brokers) as consumer:
        known = consumer.list_topics(timeout=10).topics
        places = [TopicPartition(t, p, 0) for t in topics for p in known[t].partitions]
        consumer.assign(places)
        open_places, records = len(places), []
        while open_places:
            message = consumer.poll(10)
            assert message is not None, "the broker sends nothing"
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                open_places -= 1
            else:
                records.append(_record(message))
    records.sort(key=lambda record: (topics.index(record.topic), record.partition, record.offset))
    return [record for record in records if not subjects or record.key in subjects]


def _record(message: Any) -> Published:
    return Published(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key().decode(),
        {name: value.decode() for name, value in message.headers() or ()},
        message.value(),
    )


@contextmanager
def _reader(brokers: str) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"test-{uuid.uuid4().hex}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()
