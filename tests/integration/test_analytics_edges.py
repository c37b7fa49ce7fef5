"""Batches at the edge, and faults that come together, on DynamoDB Local and MinIO."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

import pytest
from tests.support.analytics import Analytics, dynamo_client
from tests.support.analytics_events import LogRecord, Shop, record_of
from tests.support.components import LocalComponents
from tests.support.faulted import Faulted, faulted, items_of, one_partition
from tests.support.store_faults import Fault, adds_conflicts, says

from shopstream_analytics.aggregates.generations import Generations
from shopstream_analytics.aggregates.merge import TRANSACTION_ITEMS_MAX
from shopstream_analytics.archive.chain import Link
from shopstream_analytics.archive.line import value_of
from shopstream_analytics.archive.store import open_chain
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.identity import ensure_tables
from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.rebuild.tables import Position, Tables
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import LogRange, SinkUnavailable, StoreLost, StoreRefused
from shopstream_analytics.tables import aggregates_table
from shopstream_analytics.worker.sinks import WORKERS, WorkerName
from shopstream_shared.generations import table_of
from shopstream_shared.topics import ORDERS

FOR_EVER: Final = 1_000_000_000
_numbers: Final = count(1)
Use = Callable[[Faulted], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Stores:
    """Tables and a bucket of their own."""

    analytics: Analytics
    settings: AnalyticsSettings

    def run(self, name: WorkerName, use: Use) -> None:
        """Use a prepared sink."""

        async def run() -> None:
            async with faulted(name, self.settings, one_partition(ORDERS)) as sink:
                await use(sink)

        asyncio.run(run())

    def archived(self, source: Source) -> list[bytes | None]:
        chain = self.analytics.chain(source.topic, source.partition, start=0)
        return [value_of(line) for stored in chain for line in stored.lines]


@pytest.fixture(scope="module")
def stores(session_components: LocalComponents) -> Stores:
    analytics = Analytics.without_log(session_components, Path())
    variables: dict[str, Any] = {**analytics.environ, "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS": "0.2"}
    return Stores(analytics, AnalyticsSettings(**variables))


@pytest.fixture
def source() -> Source:
    """A partition that no other test uses."""
    return Source(ORDERS, next(_numbers))


def orders(number: int, partition: int = 0) -> list[LogRecord]:
    shop = Shop(seed=71)
    life = (one for _ in range(number) for one in shop.order_life() if one.topic == ORDERS)
    return [record_of(one, offset, partition) for offset, one in enumerate(islice(life, number))]


def bad(offset: int) -> LogRecord:
    return record_of(Shop(seed=72).order_life()[0], offset)._replace(value=b"no json")


@pytest.mark.parametrize("name", WORKERS)
def test_a_stretch_of_markers_alone_moves_the_position_and_stores_nothing(
    name: WorkerName, stores: Stores, source: Source
) -> None:
    async def use(sink: Faulted) -> None:
        partition = await sink.sink.open(source, LogRange(0, 9))
        await partition.write(Batch(source, 0, 5, []))
        assert partition.durable == 5
        await partition.flush()
        assert sink.s3.calls["PUT object"] == 0
        # What follows begins behind them.
        (one,) = orders(1)
        await partition.write(Batch(source, 5, 7, [one._replace(offset=6)]))
        await partition.flush()
        assert partition.durable == 7

    stores.run(name, use)
    if name == "archive":
        assert len(stores.archived(source)) == 1


@pytest.mark.parametrize("name", ["recent", "archive"])
def test_poison_at_the_start_in_the_middle_and_at_the_end_of_a_batch_holds_nothing_up(
    name: WorkerName, stores: Stores, source: Source
) -> None:
    good = orders(2)
    records = [
        bad(0),
        good[0]._replace(offset=1),
        bad(2),
        good[1]._replace(offset=3),
        bad(4),
    ]

    async def use(sink: Faulted) -> None:
        assert await sink.feed(source, records, batch_records=5) is None

    stores.run(name, use)
    if name == "archive":
        assert stores.archived(source) == [record.value for record in records]
    else:
        ids = sorted((dict(record.headers)["ce_id"] or b"").decode() for record in good)
        assert set(ids) <= set(stores.analytics.recent_ids())


def test_reasons_of_both_kinds_in_one_transaction_trim_what_is_merged_and_repeat_the_rest(
    stores: Stores, source: Source
) -> None:
    records = orders(8)
    table = stores.settings.checkpoints_table
    reference = Source(ORDERS, next(_numbers))

    async def use(sink: Faulted) -> None:
        assert await sink.feed(source, records[:5], batch_records=5) is None
        # As after a crash before the checkpoint: merged, but not known to be.
        key = f"analytics-aggregates#{ORDERS}#id#{source.partition}"
        dynamo_client(stores.analytics.environ).delete_item(TableName=table, Key={"pk": {"S": key}})
        conflicts = Fault(adds_conflicts, frozenset({"TransactWriteItems"}), 2)
        sink.break_by([conflicts])
        assert await sink.feed(source, records, batch_records=8) is None
        assert conflicts.hits == 2
        assert await sink.feed(reference, records) is None

    stores.run("aggregates", use)
    items = stores.analytics.scan("SHOPSTREAM_AGGREGATES_TABLE_NAME")
    assert items_of(items, source) == items_of(items, reference) != {}


@pytest.mark.parametrize(
    ("name", "operation"), [("aggregates", "TransactWriteItems"), ("archive", "PUT object")]
)
def test_a_request_that_can_never_be_taken_halts_the_sink_and_is_not_repeated(
    name: WorkerName, operation: str, stores: Stores, source: Source
) -> None:
    async def use(sink: Faulted) -> None:
        code = "InvalidArgument" if name == "archive" else "ValidationException"
        fault = Fault(says(400, code), frozenset({operation}), FOR_EVER)
        sink.break_by([fault])
        failure = await sink.feed(source, orders(1))
        assert isinstance(failure, StoreRefused)
        assert code in str(failure)
        # The aggregates look for the item that is refused: once all together, then each alone.
        tries_max = 1 if name == "archive" else 1 + TRANSACTION_ITEMS_MAX
        assert fault.hits <= tries_max
        assert sink.counted("refused") == fault.hits

    stores.run(name, use)


def test_a_file_that_cannot_be_stored_takes_nothing_more_in_however_often_it_is_tried(
    stores: Stores, source: Source
) -> None:
    records = orders(6)
    small = stores.settings.model_copy(update={"archive_file_records": 2})

    async def use(sink: Faulted) -> None:
        sink.break_by([Fault(says(503, "SlowDown"), frozenset({"PUT object"}), FOR_EVER)])
        partition: Any = await sink.sink.open(source, LogRange(0, 6))
        held = set()
        for _ in range(3):
            with pytest.raises(SinkUnavailable):
                await partition.write(Batch(source, 0, 6, records))
            held.add(partition.held_bytes)
        assert len(held) == 1
        assert partition.durable == 0
        sink.break_by([])
        await partition.write(Batch(source, 0, 6, records))
        await partition.flush()

    Stores(stores.analytics, small).run("archive", use)
    assert stores.archived(source) == [record.value for record in records]


def test_an_object_of_somebody_else_at_the_chain_s_key_halts_the_archive(stores: Stores) -> None:
    async def use(sink: Faulted) -> None:
        # The sink made the bucket.
        async with open_chain(stores.settings) as chain:
            await chain.client.put_object(Bucket=chain.bucket, Key="k", Body=b"no link")
            with pytest.raises(StoreLost, match="k is there, but no object of a chain"):
                await chain.create("k", b"body", Link(0, 1, 0, 0, 1, "sha", "id"))

    stores.run("archive", use)


def test_no_number_of_a_rebuild_comes_twice_whatever_was_dropped(stores: Stores) -> None:
    tables = Tables.of(stores.settings)
    first = tables.begin()
    part = "shop.orders", "id", 0
    tables.place(first, part, Position(0, 7), "")
    tables.complete(first)
    assert tables.use(first, instead_of=0)
    with pytest.raises(RebuildFailed, match="came into use"):
        tables.drop(first)
    assert tables.use(0, instead_of=first)
    tables.drop(first)
    tables.drop(first)
    assert tables.checkpoint(first, *part) is None
    second = tables.begin()
    assert (first, second) == (1, 2)
    assert tables.checkpoint(second, *part) is None


def test_a_rebuild_whose_table_is_dropped_while_it_runs_cannot_be_swapped_in(
    stores: Stores,
) -> None:
    tables = Tables.of(stores.settings)
    running, done = tables.begin(), tables.begin()
    tables.drop(running)
    with pytest.raises(RebuildFailed, match="was dropped meanwhile"):
        tables.complete(running)
    assert not tables.use(running, instead_of=0)
    # Looked at, then dropped, then swapped.
    tables.complete(done)
    assert tables.unfit(done) is None
    tables.drop(done)
    assert not tables.use(done, instead_of=0)
    assert tables.current() == 0


def test_a_rebuild_whose_table_somebody_deleted_is_neither_swapped_in_nor_made_again(
    stores: Stores,
) -> None:
    tables = Tables.of(stores.settings)
    client = dynamo_client(stores.analytics.environ)

    async def prepared(number: int) -> None:
        async with open_dynamo(stores.settings) as dynamo:
            base = stores.settings.aggregates_table, stores.settings.checkpoints_table
            generation = Generations(dynamo, *base).of(number)
            await ensure_tables(dynamo, aggregates_table(generation.table), generation.checkpoints)

    number = tables.begin()
    assert tables.unfit(number) == "is not complete"
    tables.complete(number)
    assert tables.unfit(number) is None
    asyncio.run(prepared(number))
    client.delete_table(TableName=table_of(stores.settings.aggregates_table, number))
    assert "lost its table" in str(tables.unfit(number))
    with pytest.raises(StoreLost, match="was deleted"):
        asyncio.run(prepared(number))
    client.create_table(
        **aggregates_table(table_of(stores.settings.aggregates_table, number)).definition()
    )
    assert "lost its table" in str(tables.unfit(number))
