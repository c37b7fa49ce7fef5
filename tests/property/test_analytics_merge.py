"""Protocol rule 20: any borders, any crashes, any late zombie give the same aggregates.

One suite for the store we own in memory and for the real DynamoDB Local.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.analytics import dynamo_client
from tests.support.analytics_events import Counts, Shop, naive_counts
from tests.support.components import LocalComponents

from shopstream_analytics.aggregates import keys
from shopstream_analytics.aggregates.fold import ItemKey, fold
from shopstream_analytics.aggregates.merge import AggregateStore, ItemUpdate, merge
from shopstream_analytics.aggregates.store import DynamoAggregates
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import SinkUnavailable
from shopstream_analytics.tables import aggregates_table, ensure_table
from shopstream_shared.events.codec import DecodedEvent, decode

SOURCE = Source("shop.orders", 0)


class MemoryAggregates:
    """Keeps the port's promise: all updates of a call, or none."""

    def __init__(self) -> None:
        self.items: dict[ItemKey, tuple[int, Counter[str]]] = {}

    async def apply(self, source: Source, updates: Sequence[ItemUpdate]) -> Mapping[ItemKey, int]:
        refused = {
            update.key: self.items[update.key][0]
            for update in updates
            if update.key in self.items and self.items[update.key][0] >= update.first
        }
        if not refused:
            for update in updates:
                _, counters = self.items.get(update.key, (-1, Counter()))
                for name, amount in update.delta.items():
                    counters[name] += amount
                self.items[update.key] = (update.last, counters)
        return refused


class DyingStore:
    """Dies after so many calls, before or after the call has landed."""

    def __init__(self, store: AggregateStore, calls: int, *, landed: bool) -> None:
        self._store = store
        self._calls = calls
        self._landed = landed

    async def apply(self, source: Source, updates: Sequence[ItemUpdate]) -> Mapping[ItemKey, int]:
        self._calls -= 1
        if self._calls < 0:
            if self._landed:
                await self._store.apply(source, updates)
            raise SinkUnavailable("died")
        return await self._store.apply(source, updates)


#: A try: where it starts (as a share of the checkpoint), how far it goes, when it dies.
Try = tuple[float, int, int, bool]
TRIES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(1, 25), st.integers(0, 3), st.booleans()),
    max_size=12,
)


def log_of(seed: int, count: int) -> list[DecodedEvent]:
    shop = Shop(seed)
    events: list[DecodedEvent] = []
    while len(events) < count:
        events += [decode(one.value) for one in shop.order_life()]
    return events[:count]


async def run_tries(store: AggregateStore, log: list[DecodedEvent], tries: list[Try]) -> None:
    """Batches with any borders, from any position at or below the checkpoint, that may die."""
    checkpoint = 0
    numbered = list(enumerate(log))
    for share, size, calls, landed in tries:
        start = int(share * checkpoint)
        end = min(len(log), start + size)
        dying = DyingStore(store, calls, landed=landed)
        with contextlib.suppress(SinkUnavailable):
            await merge(dying, SOURCE, fold(numbered[start:end]))
            checkpoint = max(checkpoint, end)
    await merge(store, SOURCE, fold(numbered[checkpoint:]))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 60), tries=TRIES)
def test_any_borders_and_crashes_give_the_same_aggregates_in_memory(
    seed: int, count: int, tries: list[Try]
) -> None:
    log = log_of(seed, count)
    store = MemoryAggregates()
    asyncio.run(run_tries(store, log, tries))
    assert {tuple(key): item[1] for key, item in store.items.items()} == expected(log)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10_000), tries=TRIES)
def test_any_borders_and_crashes_give_the_same_aggregates_in_dynamodb(
    seed: int, tries: list[Try], dynamo: "Dynamo"
) -> None:
    log = log_of(seed, 60)

    async def run() -> Counts:
        async with dynamo() as (store, table):
            await run_tries(store, log, tries)
            return await asyncio.to_thread(counts_in, dynamo.environ, table)

    assert asyncio.run(run()) == expected(log)


def expected(log: list[DecodedEvent]) -> Counts:
    return naive_counts(event.value for event in log)


class Dynamo:
    """Makes a table of its own for each example."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def __call__(self) -> AbstractAsyncContextManager[tuple[AggregateStore, str]]:
        return self._open()

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[tuple[AggregateStore, str]]:
        names: dict[str, Any] = {**self.environ}
        table = f"Aggregates-{uuid4().hex[:12]}"
        async with open_dynamo(AnalyticsSettings(**names)) as client:
            await ensure_table(client, aggregates_table(table))
            yield DynamoAggregates(client, table), table
            await client.delete_table(TableName=table)


@pytest.fixture(scope="module")
def dynamo(session_components: LocalComponents) -> Dynamo:
    return Dynamo(session_components.environ_of("dynamodb"))


def counts_in(environ: Mapping[str, str], table: str) -> Counts:
    counts: Counts = {}
    pages = dynamo_client(environ).get_paginator("scan").paginate(TableName=table)
    for item in (item for page in pages for item in page["Items"]):
        key, _ = keys.parse(item["pk"]["S"], item["sk"]["S"])
        names = (name for name in item if name not in {"pk", "sk", "upto"})
        counts[(*key,)] = Counter({name: int(item[name]["N"]) for name in names})
    return counts
