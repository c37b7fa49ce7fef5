"""A trial of one safety piece of the consumers: what is stored must be exact, without it not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from tests.support.analytics import Analytics, s3_client
from tests.support.analytics_events import LogRecord, event, naive_counts, order_body, record_of
from tests.support.analytics_reads import KeptLetters

from shopstream_analytics.aggregates.sink import AggregatesSink
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.progress import Progress
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import LogRange, PartitionSink, Sink, TopicState
from shopstream_analytics.worker.sinks import WorkerName, open_sink
from shopstream_shared.archive.bucket import S3Bucket
from shopstream_shared.topics import ORDERS
from shopstream_stack.archive.check import Check

SOURCE: Final = Source(ORDERS, 0)
EVENTS: Final = 8
WAIT_SECONDS: Final = 60.0

with_and_without = pytest.mark.parametrize("sabotaged", [False, True], ids=["whole", "without"])
Piece = Callable[[pytest.MonkeyPatch], None]


@dataclass(slots=True)
class Trial:
    """A partition of a few events, stores of its own, and the question whether they are right."""

    patch: pytest.MonkeyPatch
    analytics: Analytics
    sabotaged: bool
    log: Sequence[LogRecord] = field(default_factory=lambda: orders(EVENTS))

    def without(self, piece: Piece) -> None:
        """Take a piece out, where this is the run without it."""
        if self.sabotaged:
            piece(self.patch)

    def judge(self, *, exact: bool, seen: object = None) -> None:
        """All is right as it is; without the piece it is not."""
        assert exact is not self.sabotaged, seen

    @property
    def settings(self) -> AnalyticsSettings:
        variables: dict[str, Any] = {**self.analytics.environ}
        return AnalyticsSettings(**variables)

    @asynccontextmanager
    async def sink(self, name: WorkerName) -> AsyncIterator[Sink]:
        """A worker's sink on its store, prepared; its letters stay in memory."""
        async with open_sink(name, self.settings, Progress()) as sink:
            if isinstance(sink, AggregatesSink):
                letters = KeptLetters()
                sink.letters_of = lambda source, epoch: letters
            await sink.prepare({ORDERS: TopicState("id", 1)})
            yield sink

    async def open(self, sink: Sink) -> PartitionSink:
        return await sink.open(SOURCE, LogRange(0, len(self.log)))

    def batch(self, start: int, end: int) -> Batch:
        return Batch(SOURCE, start, end, self.log[start:end], generation=1)

    def counts_are_exact(self) -> bool:
        return self.analytics.counts() == naive_counts(one.value or b"" for one in self.log)

    def archive_is_exact(self) -> bool:
        """By `shopstream archive verify`, and by its lines against the log."""
        environ = self.analytics.environ
        bucket = S3Bucket(s3_client(environ), environ["ARCHIVE_BUCKET_NAME"], RuntimeError)
        report = Check(bucket, [ORDERS], []).run(lambda _: None)
        return report.holds and sum(chain.records for chain in report.chains) == len(self.log)


def orders(number: int) -> list[LogRecord]:
    """Orders of one hour, which so add to the same few items, at the offsets 0, 1, 2 and so on."""
    bodies = [order_body(f"order-{n}", "s", [("p", 1, 500 + n)]) for n in range(number)]
    made = [event("order.paid", body, subject=body["id"], seller="s") for body in bodies]
    return [record_of(one, offset) for offset, one in enumerate(made)]


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not check():  # noqa: ASYNC110 - a deadline poll
            await asyncio.sleep(0.005)
