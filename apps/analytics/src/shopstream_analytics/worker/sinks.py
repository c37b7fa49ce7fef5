"""Build the sink of a worker by its name."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final, Literal

from shopstream_analytics.aggregates import sink as aggregates
from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dead_letters import PartitionLetters
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.progress import Progress
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import Sink
from shopstream_shared.crash import CrashPoints
from shopstream_shared.kafka import KafkaConnection

WorkerName = Literal["aggregates", "recent", "archive"]
WORKERS: Final[tuple[WorkerName, ...]] = ("aggregates", "recent", "archive")


def group_of(name: WorkerName) -> str:
    """The consumer group and Faust app id of a worker."""
    return f"analytics-{name}"


@contextlib.asynccontextmanager
async def open_sink(
    name: WorkerName, settings: AnalyticsSettings, progress: Progress
) -> AsyncIterator[Sink]:
    """The sink for the span of the context; nothing is connected before its first call."""
    crash = CrashPoints(settings.crash_at)
    async with open_dynamo(settings) as client:
        checkpoints = Checkpoints.of(client, settings.checkpoints_table, group_of(name))
        kafka = KafkaConnection(settings.kafka_brokers, f"{settings.kafka_client_id}-letters")

        def letters_of(source: Source) -> PartitionLetters:
            return PartitionLetters(kafka, source, progress)

        yield aggregates.AggregatesSink(
            client=client,
            table=settings.aggregates_table,
            checkpoints=checkpoints,
            letters_of=letters_of,
            crash=crash,
            topics={},
        )
