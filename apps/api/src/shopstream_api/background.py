"""What runs beside the requests: the schema at start, a watch on the broker, the sweeper."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from sqlalchemy import text

from shopstream_api.db.revision import is_current
from shopstream_api.db.transaction import Database
from shopstream_api.errors import Unavailable
from shopstream_api.idempotency.repository import SWEEP_ROWS_MAX, KeyReader
from shopstream_api.idempotency.service import KEPT
from shopstream_api.outbox.relay.metrics import RelayMetrics
from shopstream_api.threads import in_daemon
from shopstream_shared.clock import Clock
from shopstream_shared.health import Unhealthy
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.logs import get_logger
from shopstream_shared.topic_admin import TopicMismatch, ensure_topics
from shopstream_shared.topics import TopicSpec

SCHEMA_RETRY_SECONDS: Final = 1.0
WATCH_SECONDS: Final = 2.0
WATCH_TIMEOUT_SECONDS: Final = 2.0
#: A watch that has not reported for this long is itself a fault.
WATCH_AGE_SECONDS_MAX: Final = 30.0
SWEEP_SECONDS: Final = 5.0
#: Of SWEEP_ROWS_MAX keys each: 20,000 a second, several times what one process can take in.
SWEEP_BATCHES_MAX: Final = 100

_log = get_logger(__name__)


class Schema:
    """Brings the schema up to date, or checks it, as soon as the database is there."""

    def __init__(self, database_url: str, database: Database, *, migrate: bool) -> None:
        self._url = database_url
        self._database = database
        self._migrate = migrate

    async def run(self) -> None:
        """Try until it is done; then requests may pass."""
        while True:
            try:
                reason = await in_daemon(self._once, "schema")
            except Exception as error:  # noqa: BLE001 - whatever it is, the next try may do
                reason = f"the schema cannot be checked: {type(error).__name__}"
                _log.warning("schema not ready", reason=reason)
            self._database.not_ready = reason
            if reason is None:
                return
            await asyncio.sleep(SCHEMA_RETRY_SECONDS)

    def _once(self) -> str | None:
        if is_current(self._url):
            return None
        if not self._migrate:
            return "the schema is not current; run shopstream-api migrate"
        from shopstream_api.db.migrate import migrate  # noqa: PLC0415 - Alembic only where needed

        migrate(self._url)
        return None

    async def probe(self) -> str:
        """The database's health check: the schema is there and a statement is answered."""
        if self._database.not_ready is not None:
            raise Unhealthy(self._database.not_ready)
        try:
            async with self._database.reading() as connection:
                await connection.execute(text("SELECT 1"))
        except Unavailable as error:
            raise Unhealthy(error.detail) from error
        return "answers"


class BrokerWatch:
    """Creates or checks the topics and watches that the broker answers; health only reads it."""

    def __init__(self, connection: KafkaConnection, specs: Sequence[TopicSpec]) -> None:
        self._connection = connection
        self._specs = specs
        self._seen = time.monotonic()
        self._broker: str | None = "not asked yet"
        self._topics: str | None = "not checked yet"

    async def run(self) -> None:
        """Ask every WATCH_SECONDS, in a thread, until cancelled."""
        admin = AdminClient(self._connection.admin())
        while True:
            await in_daemon(lambda: self._once(admin), "broker-watch")
            self._seen = time.monotonic()
            await asyncio.sleep(WATCH_SECONDS)

    def _once(self, admin: AdminClient) -> None:
        try:
            present = admin.list_topics(timeout=WATCH_TIMEOUT_SECONDS).topics
            self._broker = None
            # A broker that lost its data is set up again, as a fresh one would be.
            if self._topics is not None or any(s.name not in present for s in self._specs):
                ensure_topics(admin, self._specs)
                _log.info("topics agree with topics.toml")
                self._topics = None
        except TopicMismatch as mismatch:
            self._topics = str(mismatch)
            _log.error("topics differ from topics.toml", differences=mismatch.differences)
        except KafkaException as error:
            self._broker = f"the broker does not answer: {error.args[0].name()}"

    async def probe_broker(self) -> str:
        if time.monotonic() - self._seen > WATCH_AGE_SECONDS_MAX:
            raise Unhealthy("the broker has not been asked for too long")
        if self._broker is not None:
            raise Unhealthy(self._broker)
        return "answers"

    async def probe_topics(self) -> str:
        if self._topics is not None:
            raise Unhealthy(self._topics)
        return "agree with topics.toml"


class Sweeper:
    """Forgets expired idempotency keys and counts what operators must look at."""

    def __init__(self, database: Database, clock: Clock, metrics: RelayMetrics) -> None:
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self.poisoned = 0

    async def run(self) -> None:
        """Sweep every SWEEP_SECONDS until cancelled; a database that is away is tried again."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self._once()
            except Unavailable:
                continue
            except Exception:  # noqa: BLE001 - logged; the next sweep may do
                _log.exception("sweep failed")

    async def _once(self) -> None:
        async with self._database.reading() as connection:
            keys, before = KeyReader(connection), self._clock.now() - KEPT
            for _ in range(SWEEP_BATCHES_MAX):
                if await keys.sweep(before) < SWEEP_ROWS_MAX:
                    break
            found = await connection.execute(text("SELECT count(*) FROM outbox_poison"))
            self.poisoned = found.scalar_one()
            self._metrics.poisoned.set(self.poisoned)

    async def probe(self) -> str:
        """The health of the poison table (protocol rule 11): anything in it needs a person."""
        if self.poisoned:
            raise Unhealthy(f"{self.poisoned} events are refused by the broker; see poison ls")
        return "none"
