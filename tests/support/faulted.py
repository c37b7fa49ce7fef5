"""A sink behind a store that answers wrongly: real sink, lane and store code, no broker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.support.analytics_events import LogRecord
from tests.support.analytics_reads import KeptLetters
from tests.support.store_faults import Fault, StoreProxy

from shopstream_analytics.aggregates.sink import AggregatesSink
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.progress import FAULTS, Progress
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import FaultKind, LogRange, Sink, Topics, TopicState
from shopstream_analytics.worker.sinks import WorkerName, open_sink

BATCH_RECORDS: Final = 4
#: All scenarios of a sink run at once, and DynamoDB Local does 50 transactions/s on a free machine.
SECONDS_MAX: Final = 300.0


@dataclass(slots=True)
class Faulted:
    """A prepared sink whose stores are behind a proxy each."""

    sink: Sink
    dynamo: StoreProxy
    s3: StoreProxy
    progress: Progress

    def counted(self, kind: FaultKind) -> int:
        """How many tries were counted as faults of this kind."""
        return self.progress.counters[FAULTS + kind]

    def break_by(self, faults: Sequence[Fault]) -> None:
        """From now on; to be called once all is prepared."""
        self.dynamo.faults = self.s3.faults = list(faults)

    async def feed(
        self,
        source: Source,
        records: Sequence[LogRecord],
        *,
        batch_records: int = BATCH_RECORDS,
    ) -> BaseException | None:
        """Give the records, at offsets 0, 1, 2, and so on, to the sink until all are stored.

        Returns what ended the lane before that.
        """
        lanes = Lanes(self.sink, Progress())
        await lanes.open({source: LogRange(0, len(records))})
        lanes.start_generation(1)
        position = lanes.durable(source) or 0
        async with asyncio.timeout(SECONDS_MAX):
            while not lanes.failed.done() and lanes.durable(source) != len(records):
                # One after the other: what waits is joined.
                if lanes.durable(source) == position:
                    end = min(position + batch_records, len(records))
                    lanes.offer(Batch(source, position, end, records[position:end], generation=1))
                    position = end
                await asyncio.sleep(0.05)
        await lanes.close(timeout_seconds=SECONDS_MAX)
        return lanes.failed.result() if lanes.failed.done() else None


@asynccontextmanager
async def faulted(
    name: WorkerName, settings: AnalyticsSettings, topics: Topics
) -> AsyncIterator[Faulted]:
    """The sink of a worker, prepared, without faults yet."""
    assert settings.dynamo_endpoint is not None
    dynamo, s3 = StoreProxy(settings.dynamo_endpoint), StoreProxy(settings.minio_endpoint)
    progress = Progress()
    async with dynamo.open(), s3.open():
        there = settings.model_copy(
            update={"dynamo_endpoint": dynamo.url, "minio_endpoint": s3.url}
        )
        async with open_sink(name, there, progress) as sink:
            if isinstance(sink, AggregatesSink):
                # Without a broker.
                sink.letters_of = lambda source, epoch: KeptLetters()
            await sink.prepare(topics)
            progress.counters.clear()
            yield Faulted(sink, dynamo, s3, progress)


def one_partition(topic: str) -> Topics:
    """What the broker would say of the topic."""
    return {topic: TopicState("id", 1)}


def items_of(rows: Sequence[dict[str, Any]], source: Source) -> dict[tuple[str, str], Any]:
    """The aggregates' items of one source partition, under names that leave the source out."""
    tail = f"#{source.topic}#{source.partition}"
    return {
        (row["pk"]["S"].removesuffix(tail), row["sk"]["S"]): {
            name: value for name, value in row.items() if name not in {"pk", "sk"}
        }
        for row in rows
        if row["pk"]["S"].endswith(tail)
    }
