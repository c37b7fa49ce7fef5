"""Build the sink of a worker by its name."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

from shopstream_analytics.aggregates.generations import Generations
from shopstream_analytics.aggregates.sink import AggregatesSink
from shopstream_analytics.archive.begun import Beginnings
from shopstream_analytics.archive.sink import ArchiveSink, Rotation
from shopstream_analytics.archive.store import BucketAtMinio, S3Chain, open_chain
from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.consumer.records import MakeRecord, packed
from shopstream_analytics.dead_letters import PartitionLetters
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.progress import Progress
from shopstream_analytics.recent import RecentSink
from shopstream_analytics.recent_index import RecentIndexes
from shopstream_analytics.recount import LogRecount
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import Sink
from shopstream_shared.crash import CrashPoints
from shopstream_shared.kafka import KafkaConnection

WorkerName = Literal["aggregates", "recent", "archive"]
WORKERS: Final[tuple[WorkerName, ...]] = ("aggregates", "recent", "archive")


def group_of(name: WorkerName) -> str:
    """The consumer group and Faust app id of a worker."""
    return f"analytics-{name}"


def record_of(name: WorkerName) -> MakeRecord:
    """How records come to this sink: only the archive writes down all headers of all records."""
    return Beginnings().record if name == "archive" else packed


@contextlib.asynccontextmanager
async def open_sink(
    name: WorkerName, settings: AnalyticsSettings, progress: Progress
) -> AsyncIterator[Sink]:
    """The sink for the span of the context; nothing is connected before its first call."""
    if name == "archive":
        # Its own client and nothing of DynamoDB: the sinks do not depend on each other.
        async with open_chain(settings, progress.store_fault) as chain:
            yield _archive(settings, chain, progress)
        return
    async with open_dynamo(settings, progress.store_fault) as client:
        if name == "recent":
            yield RecentSink(
                client=client,
                table=settings.recent_events_table,
                indexes=RecentIndexes(settings.recent_shards),
                checkpoints=Checkpoints.of(client, settings.checkpoints_table, group_of(name)),
                crash=CrashPoints(settings.crash_at),
                topics={},
                on_refused=progress.item_refused,
            )
        else:
            yield AggregatesSink(
                client=client,
                generations=Generations(
                    client, settings.aggregates_table, settings.checkpoints_table
                ),
                letters_of=_letters(settings, progress),
                recount=LogRecount(
                    KafkaConnection(settings.kafka_brokers, f"{settings.kafka_client_id}-recount")
                ),
                crash=CrashPoints(settings.crash_at),
                topics={},
                on_passed_over=progress.passed_over,
            )


def _archive(settings: AnalyticsSettings, chain: S3Chain, progress: Progress) -> ArchiveSink:
    return ArchiveSink(
        store=chain,
        set_up=BucketAtMinio.of(settings, progress.store_fault),
        rotation=Rotation(
            bytes=settings.archive_file_bytes,
            records=settings.archive_file_records,
            seconds=settings.archive_rotate_seconds,
            held_bytes=settings.archive_held_bytes,
        ),
        crash=CrashPoints(settings.crash_at),
        topics={},
    )


def _letters(
    settings: AnalyticsSettings, progress: Progress
) -> Callable[[Source, int], PartitionLetters]:
    kafka = KafkaConnection(settings.kafka_brokers, f"{settings.kafka_client_id}-letters")
    return lambda source, epoch: PartitionLetters(kafka, source, progress, epoch)
