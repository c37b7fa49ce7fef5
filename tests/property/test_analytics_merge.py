"""Protocol rule 20: any borders, any crashes, any late zombie give the same aggregates.

One suite for the store we own in memory and for the real DynamoDB Local.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.analytics import dynamo_client, short
from tests.support.analytics_events import Counts, Shop, naive_counts
from tests.support.components import LocalComponents

from shopstream_analytics.aggregates import keys
from shopstream_analytics.aggregates.fold import ItemKey
from shopstream_analytics.aggregates.merge import AggregateStore, ItemUpdate, Round, merge
from shopstream_analytics.aggregates.store import DynamoAggregates
from shopstream_analytics.aggregates.timeliness import PartitionTime, mark
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import SinkUnavailable
from shopstream_analytics.tables import aggregates_table, ensure_table
from shopstream_shared.events.codec import DecodedEvent, decode

SOURCE = Source("shop.orders", 0)
#: After so many tries what was held up has landed.
LATE_MAX = 6


class MemoryAggregates:
    """Keeps the port's promise: all updates of a call, or none."""

    def __init__(self) -> None:
        self.items: dict[ItemKey, tuple[int, Counter[str]]] = {}

    async def apply(self, source: Source, updates: Sequence[ItemUpdate]) -> Mapping[ItemKey, int]:
        await asyncio.sleep(0)
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


class DyingWriter:
    """The store as a writer sees it that dies, or is held up, after so many calls.

    The call at which it dies lands or not. Calls of one that is held up land whenever they are let
    go: nobody waits for them.
    """

    def __init__(self, store: AggregateStore, one: "Try") -> None:
        self._store = store
        self._try = one
        self._calls = one.calls
        self.held: list[Sequence[ItemUpdate]] = []

    async def apply(self, source: Source, updates: Sequence[ItemUpdate]) -> Mapping[ItemKey, int]:
        self._calls -= 1
        if self._calls >= 0:
            return await self._store.apply(source, updates)
        if self._try.end == "held":
            self.held.append(updates)
        if self._try.end == "landed":
            await self._store.apply(source, updates)
        raise SinkUnavailable("died")


class Try(NamedTuple):
    """One writer's attempt: from which checkpoint it goes on (1: the present one), how many events
    it takes, how many items a call of its version carries, after how many calls it ends and how,
    and, when held up, how many tries later its last calls land."""

    back: float
    size: int
    carrier: int
    calls: int
    end: Literal["lost", "landed", "held"]
    late: int


TRIES = st.lists(
    st.builds(
        Try,
        back=st.floats(0, 1),
        size=st.integers(1, 25),
        carrier=st.sampled_from([1, 3, 7, 100]),
        calls=st.integers(0, 12),
        end=st.sampled_from(["lost", "landed", "held"]),
        late=st.integers(1, LATE_MAX),
    ),
    max_size=12,
)


def log_of(seed: int, count: int) -> list[DecodedEvent]:
    shop = Shop(seed)
    events: list[DecodedEvent] = []
    while len(events) < count:
        events += [decode(one.value) for one in shop.order_life()]
    return events[:count]


async def run_tries(store: AggregateStore, log: list[DecodedEvent], tries: list[Try]) -> None:
    """Writers of several versions, each from a checkpoint that was true once; then one to the end.

    A checkpoint holds partition time besides, and moves only after all items are written.
    """
    checkpoints = [(0, PartitionTime())]
    numbered = list(enumerate(log))
    held: list[tuple[int, Sequence[ItemUpdate]]] = []
    last = Try(back=1, size=len(log), carrier=100, calls=10**6, end="lost", late=0)
    for number, one in enumerate([*tries, last]):
        await let_go(store, held, number)
        start, time = checkpoints[round(one.back * (len(checkpoints) - 1))]
        events = numbered[start : start + one.size]
        marks, time = mark(events, time)
        writer = DyingWriter(store, one)
        with contextlib.suppress(SinkUnavailable):
            round_ = Round(events, marks)
            await merge(writer, SOURCE, round_, carrier_items_max=one.carrier)
            # Conditional on its start: only ahead, whoever writes it.
            if start + len(events) > checkpoints[-1][0]:
                checkpoints.append((start + len(events), time))
        held += [(number + one.late, updates) for updates in writer.held]
    await let_go(store, held, len(tries) + LATE_MAX)


async def let_go(
    store: AggregateStore, held: list[tuple[int, Sequence[ItemUpdate]]], number: int
) -> None:
    """What was held up until now lands, and is refused or not."""
    for one in [one for one in held if one[0] <= number]:
        held.remove(one)
        await store.apply(SOURCE, one[1])


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 60), tries=TRIES)
def test_any_borders_versions_crashes_and_zombies_give_the_same_aggregates_in_memory(
    seed: int, count: int, tries: list[Try]
) -> None:
    log = log_of(seed, count)
    store = MemoryAggregates()
    asyncio.run(run_tries(store, log, tries))
    assert {short(key): item[1] for key, item in store.items.items()} == expected(log)


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10_000), tries=TRIES)
def test_any_borders_versions_crashes_and_zombies_give_the_same_aggregates_in_dynamodb(
    seed: int, tries: list[Try], dynamo: "Dynamo"
) -> None:
    log = log_of(seed, 30)

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
        counts[short(key)] = Counter({name: int(item[name]["N"]) for name in names})
    return counts
