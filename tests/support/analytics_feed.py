"""The real sinks on the real stores, fed from the real log in this process: a worker without Faust.

What a worker does between two starts: read from the sink's checkpoint to the log's end, store it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from confluent_kafka.admin import AdminClient
from tests.support.analytics import Analytics, log_ranges, read_log

from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.progress import Progress
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import LogRange, PartitionSink, Sink
from shopstream_analytics.worker.sinks import WorkerName, open_sink
from shopstream_analytics.worker.topics import describe
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.log_range import settled_ends
from shopstream_shared.topics import STREAM_TOPICS


def settings_of(analytics: Analytics) -> AnalyticsSettings:
    variables: dict[str, Any] = {**analytics.environ}
    return AnalyticsSettings(**variables)


@asynccontextmanager
async def prepared(analytics: Analytics, name: WorkerName) -> AsyncIterator[Sink]:
    """A sink that has seen the topics."""
    settings = settings_of(analytics)
    async with open_sink(name, settings, Progress()) as sink:
        await prepare(analytics, sink)
        yield sink


async def prepare(analytics: Analytics, sink: Sink) -> None:
    kafka = KafkaConnection(analytics.environ["KAFKA_BROKERS"], "tests")
    await sink.prepare(await describe(kafka, STREAM_TOPICS))


async def opened(analytics: Analytics, sink: Sink) -> dict[Source, PartitionSink]:
    """All partitions."""
    ranges = log_ranges(analytics.environ["KAFKA_BROKERS"])
    return {
        Source(*where): await sink.open(Source(*where), LogRange(*found))
        for where, found in ranges.items()
    }


def batches(analytics: Analytics, sinks: dict[Source, PartitionSink]) -> dict[Source, list[Batch]]:
    """What the log holds beyond each checkpoint, in two batches."""
    log = read_log(analytics.environ["KAFKA_BROKERS"])
    found = {}
    for where, (_, end) in log_ranges(analytics.environ["KAFKA_BROKERS"]).items():
        source = Source(*where)
        at = sinks[source].durable
        mine = [r for r in log if (r.topic, r.partition) == where and at <= r.offset < end]
        middle = mine[len(mine) // 2].offset if mine else at
        found[source] = [
            Batch(source, start, to, [r for r in mine if start <= r.offset < to])
            for start, to in ((at, middle), (middle, end))
            if start < to
        ]
    return found


def settled(analytics: Analytics) -> None:
    """Wait until nothing on the log is in an open transaction.

    A relay's commit is answered before the partitions have its markers: what it has published may
    not be readable yet, and is passed over by whoever reads to an end that was asked for later.
    """
    brokers = analytics.environ["KAFKA_BROKERS"]
    admin = AdminClient(KafkaConnection(brokers, "tests").admin())
    settled_ends(admin, list(log_ranges(brokers)), lambda: None)


def feed(analytics: Analytics, *names: WorkerName) -> None:
    """Let these sinks take in all that is on the log; both that rebuilds need without a name."""
    settled(analytics)

    async def run(name: WorkerName) -> None:
        async with prepared(analytics, name) as sink:
            sinks = await opened(analytics, sink)
            for source, waiting in batches(analytics, sinks).items():
                for batch in waiting:
                    await sinks[source].write(batch)
                await sinks[source].flush()

    for name in names or ("aggregates", "archive"):
        asyncio.run(run(name))
