"""The read API in the test's own process on a real DynamoDB, fed through the workers' own sinks.

No broker and no worker: what is promised of the whole service is tested on `Analytics.service`.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import uuid4
from zlib import crc32

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from tests.support.analytics_events import LogRecord, record_of
from tests.support.components import LocalComponents

from shopstream_analytics.aggregates.sink import AggregatesSink, Letter
from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.recent import GROUP as RECENT_GROUP
from shopstream_analytics.recent import RecentSink
from shopstream_analytics.recent_index import RecentIndexes
from shopstream_analytics.recount import LogRecount
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import LogRange, PartitionSink, Sink, TopicState
from shopstream_analytics.web.app import create_app
from shopstream_analytics.wiring import Resources, open_resources
from shopstream_shared.crash import CrashPoints
from shopstream_shared.events.codec import EncodedEvent
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import STREAM_TOPICS

PARTITIONS: Final = 2
LOG: Final = LogRange(0, 10**9)

T = TypeVar("T")


@dataclass(slots=True)
class KeptLetters:
    """Letters that stay in memory."""

    kept: list[Letter] = field(default_factory=list)

    async def standing(self, since: int) -> frozenset[int]:
        return frozenset(one.record.offset for one in self.kept if one.record.offset >= since)

    async def send(self, letters: Sequence[Letter], *, since: int) -> None:
        self.kept += letters


@dataclass(slots=True)
class Reading:
    """A running application over tables of its own; calls are blocking."""

    app: FastAPI
    settings: AnalyticsSettings
    resources: Resources
    client: httpx.AsyncClient
    portal: BlockingPortal
    sinks: Sequence[Sink]
    ends: Counter[Source] = field(default_factory=Counter)
    open: dict[tuple[int, Source], PartitionSink] = field(default_factory=dict)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``await work()`` in the application's loop."""
        return self.portal.call(work)

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.run(lambda: self.client.get(path, **arguments))

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self.run(lambda: self.client.request(method, path, **arguments))

    def feed(self, events: Sequence[EncodedEvent]) -> list[LogRecord]:
        """Let both sinks take the events in, each partition's as one batch."""
        records: dict[Source, list[LogRecord]] = {}
        starts = Counter(self.ends)
        for event in events:
            source = Source(event.topic, crc32(event.subject.encode()) % PARTITIONS)
            record = record_of(event, self.ends[source], source.partition)
            records.setdefault(source, []).append(record)
            self.ends[source] += 1
        for source, ones in records.items():
            batch = Batch(source, starts[source], self.ends[source], ones)
            self.run(lambda batch=batch: self._write(batch))  # type: ignore[misc]  # bound by default
        return [record for ones in records.values() for record in ones]

    async def _write(self, batch: Batch) -> None:
        for number, sink in enumerate(self.sinks):
            key = number, batch.source
            if key not in self.open:
                self.open[key] = await sink.open(batch.source, LOG)
            await self.open[key].write(batch)


@contextmanager
def reading(components: LocalComponents, **variables: str) -> Iterator[Reading]:
    """The application, ready to be called; ``variables`` are settings by their names."""
    name = uuid4().hex[:12]
    given: dict[str, Any] = {
        **components.environ_of("dynamodb"),
        "KAFKA_BROKERS": "127.0.0.1:1",
        "RECENT_EVENTS_TABLE_NAME": f"Recent-{name}",
        "SHOPSTREAM_AGGREGATES_TABLE_NAME": f"Aggregates-{name}",
        "SHOPSTREAM_CHECKPOINTS_TABLE_NAME": f"Checkpoints-{name}",
        **variables,
    }
    settings = AnalyticsSettings.model_validate(given)
    with (
        start_blocking_portal(backend_options={"use_uvloop": True}) as portal,
        portal.wrap_async_context_manager(_running(settings)) as (app, resources, client, sinks),
    ):
        yield Reading(app, settings, resources, client, portal, sinks)


@asynccontextmanager
async def _running(
    settings: AnalyticsSettings,
) -> AsyncIterator[tuple[FastAPI, Resources, httpx.AsyncClient, Sequence[Sink]]]:
    async with AsyncExitStack() as stack:
        resources = await stack.enter_async_context(open_resources(settings))
        app = create_app(resources, settings.cors_origins)
        transport = httpx.ASGITransport(app=app)
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://test")
        )
        sinks = _sinks(settings, resources)
        for sink in sinks:
            await sink.prepare(
                {topic: TopicState(f"id-of-{topic}", PARTITIONS) for topic in STREAM_TOPICS}
            )
        yield app, resources, client, sinks


def _sinks(settings: AnalyticsSettings, resources: Resources) -> Sequence[Sink]:
    client = resources.aggregates.client

    def checkpoints(group: str) -> Checkpoints:
        return Checkpoints.of(client, settings.checkpoints_table, group)

    return (
        AggregatesSink(
            client=client,
            generations=resources.aggregates.generations,
            letters_of=lambda source, epoch: KeptLetters(),
            recount=LogRecount(KafkaConnection(settings.kafka_brokers, "tests")),
            crash=CrashPoints(),
            topics={},
        ),
        RecentSink(
            client=client,
            table=settings.recent_events_table,
            indexes=RecentIndexes(settings.recent_shards),
            checkpoints=checkpoints(RECENT_GROUP),
            crash=CrashPoints(),
            topics={},
        ),
    )
