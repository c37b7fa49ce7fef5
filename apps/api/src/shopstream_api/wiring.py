"""What the service is made of, opened in order and closed in reverse."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from shopstream_api.background import BrokerWatch, Schema, Sweeper
from shopstream_api.db.measure import StatementMetrics
from shopstream_api.db.transaction import Database
from shopstream_api.expiry.service import ExpireHolds
from shopstream_api.expiry.worker import ExpiryMetrics, ExpiryWorker
from shopstream_api.imports.service import WorkSlice
from shopstream_api.imports.worker import ImportMetrics, ImportWorker
from shopstream_api.orders.partition_task import PartitionTask
from shopstream_api.orders.service import OrderSteps
from shopstream_api.outbox.relay.housekeeping import Housekeeper
from shopstream_api.outbox.relay.kafka import KafkaLog
from shopstream_api.outbox.relay.members import Members
from shopstream_api.outbox.relay.metrics import RelayMetrics
from shopstream_api.outbox.relay.notifier import Notifier
from shopstream_api.outbox.relay.postgres import PostgresStore
from shopstream_api.outbox.relay.relay import Relay, RelayOptions
from shopstream_api.outbox.relay.shards import transactional_id_of
from shopstream_api.outbox.relay.share import Share
from shopstream_api.outbox.relay.status import RelayStatuses
from shopstream_api.outbox.relay.threads import Listener, RelayThreads
from shopstream_api.outbox.relay.wakeup import Wakeups
from shopstream_api.settings import ApiSettings
from shopstream_api.stock.service import StockService
from shopstream_api.web.problems import kind_of
from shopstream_shared.clock import Clock, IdSource, SystemClock, Uuid7Source
from shopstream_shared.crash import CrashPoints
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import load_topics


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything that routes and health checks are given."""

    database: Database
    schema: Schema
    broker: BrokerWatch
    sweeper: Sweeper
    expiry: ExpiryWorker
    imports: ImportWorker
    partitions: PartitionTask
    relay_status: RelayStatuses
    registry: CollectorRegistry
    clock: Clock
    ids: IdSource


class Relays:
    """The relays of this process, one a shard, on the real database and broker."""

    def __init__(self, settings: ApiSettings, metrics: RelayMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._url = settings.database_url.get_secret_value()
        self._connection = KafkaConnection(settings.brokers, f"{settings.client_id}-relay")
        self._share = Share()
        self.wakeups, self.statuses = Wakeups(), RelayStatuses()
        self._threads = RelayThreads(self._relay)

    def start(self) -> None:
        self._threads.start(
            listen=Listener(self._url, self.wakeups),
            members=Members(self._url, self._share, self._threads.grow),
            housekeeping=Housekeeper(self._url),
        )

    def stop(self) -> None:
        self._threads.stop()

    def _relay(self, shard: int) -> Relay:
        settings = self._settings
        return Relay(
            open_store=lambda: PostgresStore(self._url, shard),
            open_log=lambda heartbeat: KafkaLog(self._connection, heartbeat, shard),
            options=RelayOptions(
                transactional_id_of(settings.transactional_id, shard), settings.relay_batch_rows
            ),
            waits=self.wakeups.add(),
            status=self.statuses.add(shard),
            metrics=self._metrics.of(shard),
            crash=CrashPoints(settings.crash_at),
            seat=self._share.seat(shard),
        )


@asynccontextmanager
async def open_resources(
    settings: ApiSettings, clock: Clock | None = None, *, relay: bool | None = None
) -> AsyncIterator[Resources]:
    """Open everything; nothing here waits for PostgreSQL or Kafka to be there.

    ``relay``: run it here, whatever SHOPSTREAM_RELAY says.
    """
    clock, ids = clock or SystemClock(), Uuid7Source()
    registry = _registry()
    url = settings.database_url.get_secret_value()
    metrics = RelayMetrics(registry, clock)
    relays = Relays(settings, metrics)
    notifier = Notifier(url, relays.wakeups, relays.statuses)
    async with AsyncExitStack() as stack:
        database = Database(
            url,
            pool_size=settings.pool_size,
            pool_timeout_seconds=settings.pool_timeout_seconds,
            turn_timeout_seconds=settings.request_deadline_seconds,
            clock=clock,
            ids=ids,
            on_commit=notifier.committed,
            observe=StatementMetrics(registry).observe,
        )
        stack.push_async_callback(database.close)
        schema = Schema(url, database, migrate=settings.migrate)
        broker = BrokerWatch(
            KafkaConnection(settings.brokers, settings.client_id),
            tuple(load_topics(settings.profile).values()),
        )
        sweeper = Sweeper(database, clock, metrics)
        expiry = _expiry(settings, database, clock, ids, registry)
        partitions = PartitionTask(database, clock)
        imports = _imports(settings, database, clock, ids, registry)
        tasks = [
            asyncio.create_task(part.run(), name=name)
            for name, part in (
                ("schema", schema),
                ("broker-watch", broker),
                ("notifier", notifier),
                ("sweeper", sweeper),
                ("expiry", expiry),
                ("partitions", partitions),
                ("imports", imports),
            )
            # A relay that runs by itself is not slowed down by imports.
            if name != "imports" or not relay
        ]
        stack.push_async_callback(_cancelled, tasks)
        if settings.relay == "inline" if relay is None else relay:
            relays.start()
            # Joining blocks for up to seconds; other parts close meanwhile in their own time.
            stack.push_async_callback(asyncio.to_thread, relays.stop)
        yield Resources(
            database=database,
            schema=schema,
            broker=broker,
            sweeper=sweeper,
            expiry=expiry,
            imports=imports,
            partitions=partitions,
            relay_status=relays.statuses,
            registry=registry,
            clock=clock,
            ids=ids,
        )


def _expiry(
    settings: ApiSettings,
    database: Database,
    clock: Clock,
    ids: IdSource,
    registry: CollectorRegistry,
) -> ExpiryWorker:
    return ExpiryWorker(
        database,
        clock,
        ids,
        ExpireHolds(OrderSteps(settings.low_stock_threshold), _stock(settings)),
        ExpiryMetrics(registry),
        every_seconds=settings.expiry_seconds,
    )


def _imports(
    settings: ApiSettings,
    database: Database,
    clock: Clock,
    ids: IdSource,
    registry: CollectorRegistry,
) -> ImportWorker:
    return ImportWorker(
        database,
        clock,
        ids,
        WorkSlice(_stock(settings), lambda error: kind_of(error).code),
        metrics=ImportMetrics(registry),
        crash=CrashPoints(settings.crash_at),
    )


def _stock(settings: ApiSettings) -> StockService:
    return StockService(settings.low_stock_threshold, settings.reservation_hold)


async def _cancelled(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
