"""What the parent process holds open, on one stack."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from shopstream_analytics.admin.guard import Guard
from shopstream_analytics.admin.letters import LetterBox
from shopstream_analytics.admin.overview import Freshness, Overview
from shopstream_analytics.admin.replay import Replays
from shopstream_analytics.aggregates.cache import CachedAggregates
from shopstream_analytics.aggregates.generations import Generations
from shopstream_analytics.aggregates.reader import AggregatesReader
from shopstream_analytics.broker import BrokerWatch
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.metrics import WorkerCollector
from shopstream_analytics.recent_index import RecentIndexes
from shopstream_analytics.recent_reader import RecentReader
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.supervisor import Supervisor
from shopstream_shared.kafka import KafkaConnection


@dataclass(frozen=True, slots=True)
class Resources:
    """All that routes and health need."""

    aggregates: AggregatesReader
    cached: CachedAggregates
    recent: RecentReader
    supervisor: Supervisor
    broker: BrokerWatch
    registry: CollectorRegistry
    freshness: Freshness
    overview: Overview
    letters: LetterBox
    replays: Replays
    verify_report: Path | None
    guard: Guard


@contextlib.asynccontextmanager
async def open_resources(settings: AnalyticsSettings) -> AsyncIterator[Resources]:
    """Nothing is connected before the first call; nothing is started here."""
    supervisor = Supervisor.of(settings)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(WorkerCollector(supervisor))
    kafka = KafkaConnection(settings.kafka_brokers, settings.kafka_client_id)
    letters = LetterBox(kafka)
    freshness = Freshness(supervisor.workers)
    async with open_dynamo(settings) as client:
        generations = Generations(client, settings.aggregates_table, settings.checkpoints_table)
        aggregates = AggregatesReader(client, generations)
        yield Resources(
            aggregates=aggregates,
            cached=CachedAggregates(aggregates),
            recent=RecentReader(
                client, settings.recent_events_table, RecentIndexes(settings.recent_shards)
            ),
            supervisor=supervisor,
            broker=BrokerWatch(kafka),
            registry=registry,
            freshness=freshness,
            overview=Overview(settings.services, supervisor, freshness, kafka),
            letters=letters,
            replays=Replays(
                letters=letters,
                client=client,
                generations=generations,
                recent_table=settings.recent_events_table,
                indexes=RecentIndexes(settings.recent_shards),
            ),
            verify_report=settings.verify_report,
            guard=Guard(settings.admin_token),
        )
