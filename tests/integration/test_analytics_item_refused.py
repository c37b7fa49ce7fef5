"""Protocol rule 21 on the real DynamoDB Local: an item that it never takes ends nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from tests.support.analytics_events import (
    DAY,
    LogRecord,
    event,
    inventory_body,
    order_body,
    record_of,
)
from tests.support.components import LocalComponents

from shopstream_analytics.aggregates.fold import ItemKey
from shopstream_analytics.aggregates.keys import keys_of
from shopstream_analytics.aggregates.merge import (
    Invalid,
    ItemsInvalid,
    ItemUpdate,
    Round,
    merge,
)
from shopstream_analytics.aggregates.sink import GROUP, Letter, PartitionAggregates, judge
from shopstream_analytics.aggregates.store import DynamoAggregates
from shopstream_analytics.aggregates.timeliness import Marks, PartitionTime
from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import StoreRefused
from shopstream_analytics.tables import aggregates_table, checkpoints_table, ensure_table
from shopstream_shared.crash import CrashPoints
from shopstream_shared.events.codec import DecodedEvent, decode
from shopstream_shared.topics import INVENTORY

SOURCE = Source(INVENTORY, 0)
FULL = ItemKey("product", "p1", "hour", "2026-11-21T00:00:00Z")
#: DynamoDB's limit of an item is 400 KB.
PADDING = "x" * (400 * 1024 - 80)


def records() -> list[LogRecord]:
    """Three events at offsets 0, 2 and 4; the one in the middle adds to the full item."""
    products = ("p0", "p1", "p2")
    made = [
        event(
            "inventory.updated",
            inventory_body(p, "s", 1),
            subject=p,
            seller="s",
            at=DAY + timedelta(minutes=5 if p == "p1" else 0),
        )
        for p in products
    ]
    return [record_of(one, 2 * number) for number, one in enumerate(made)]


class Sent:
    """Letters as a test sees them."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    async def standing(self, since: int) -> frozenset[int]:
        return frozenset()

    async def send(self, letters: Sequence[Letter], *, since: int) -> None:
        assert since == 0
        self.letters += letters


async def on_a_table(
    components: LocalComponents, use: Callable[[Any, AnalyticsSettings], Awaitable[None]]
) -> None:
    name = uuid4().hex[:12]
    variables: dict[str, Any] = {
        **components.environ_of("dynamodb"),
        "SHOPSTREAM_AGGREGATES_TABLE_NAME": f"Aggregates-{name}",
        "SHOPSTREAM_CHECKPOINTS_TABLE_NAME": f"Checkpoints-{name}",
    }
    settings = AnalyticsSettings(**variables)
    async with open_dynamo(settings) as client:
        await ensure_table(client, aggregates_table(settings.aggregates_table))
        await ensure_table(client, checkpoints_table(settings.checkpoints_table))
        await use(client, settings)


async def plant_full_item(client: Any, table: str) -> None:
    partition, sort = keys_of(FULL, SOURCE)
    item = {"pk": {"S": partition}, "sk": {"S": sort}, "padding": {"S": PADDING}}
    await client.put_item(TableName=table, Item=item)


async def events_of(client: Any, table: str) -> dict[str, int]:
    """The counter `events` by series, of the hour."""
    found = (await client.scan(TableName=table, ConsistentRead=True))["Items"]
    return {
        item["pk"]["S"].split("#" + INVENTORY, 1)[0]: int(item.get("events", {"N": "0"})["N"])
        for item in found
        if item["sk"]["S"].startswith("hour#")
    }


@pytest.mark.parametrize("place", [0, 1, 2], ids=["start", "middle", "end"])
def test_the_event_of_an_item_that_is_full_becomes_a_letter_and_the_rest_is_counted(
    components: LocalComponents, place: int
) -> None:
    batch_records = records()
    # The full item's event moves to this place of the batch.
    batch_records.insert(place, batch_records.pop(1))
    batch_records = [one._replace(offset=2 * number) for number, one in enumerate(batch_records)]

    async def use(client: Any, settings: AnalyticsSettings) -> None:
        await plant_full_item(client, settings.aggregates_table)
        checkpoints = Checkpoints.of(client, settings.checkpoints_table, GROUP)
        sent = Sent()
        sink = PartitionAggregates(
            source=SOURCE,
            items=SOURCE,
            topic_id="id",
            durable=0,
            store=DynamoAggregates(client, settings.aggregates_table),
            checkpoints=checkpoints,
            letters=sent,
            crash=CrashPoints(None),
        )
        await sink.write(Batch(SOURCE, 0, 7, batch_records))
        (letter,) = sent.letters
        assert (letter.record.offset, letter.reason) == (2 * place, "invalid_data")
        assert "product p1 hour" in letter.detail
        assert "size" in letter.detail
        stored = await checkpoints.stored(SOURCE, "id")
        # What has a letter has no part in partition time.
        left = [one for one in batch_records if one is not letter.record]
        assert stored == (7, judge(left, PartitionTime())[2].as_text(7))
        counted = await events_of(client, settings.aggregates_table)
        assert counted == {
            "seller#s": 3,
            "all#event-types": 3,
            "product#p0": 1,
            "product#p1": 0,
            "product#p2": 1,
        }

    asyncio.run(on_a_table(components, use))


def test_a_key_that_is_too_long_is_found_among_the_items_of_its_call(
    components: LocalComponents,
) -> None:
    # No event gets so far: `read_event` rejects it. The store does not say whose key it was.
    long = "p" * 3_000
    made = [
        event("inventory.updated", inventory_body(p, "s", 1), subject=p, seller="s")
        for p in ("p0", long, "p2")
    ]
    round_ = Round([(number, decode(one.value)) for number, one in enumerate(made)])

    async def use(client: Any, settings: AnalyticsSettings) -> None:
        store = DynamoAggregates(client, settings.aggregates_table)
        invalid = await merge(store, SOURCE, round_)
        assert {(key.dimension, key.id) for key in invalid} == {("product", long)}
        assert {one.offsets for one in invalid.values()} == {(1,)}
        counted = await events_of(client, settings.aggregates_table)
        assert counted == {"seller#s": 3, "all#event-types": 3, "product#p0": 1, "product#p2": 1}

    asyncio.run(on_a_table(components, use))


def test_a_round_of_more_counters_than_an_expression_holds_is_merged_in_halves(
    components: LocalComponents,
) -> None:
    codes = [a + b + "X" for a in "ABCDEFGHIJKLM" for b in "ABCDEFGHIJ"]
    made = []
    for code in codes:
        body = order_body(code, "s", [("p", 1, 500)], currency=code)
        made.append(event("order.paid", body, subject=code, seller="s"))
        body = order_body(code, "s", [("p", 1, 500)], currency=code, refunded=100)
        body |= {"refundAmountMinor": 100}
        made.append(event("order.refunded", body, subject=code, seller="s"))
    events = [(number, decode(one.value)) for number, one in enumerate(made)]
    marks = Marks(frozenset({3, len(made) - 1}), ((7, events[7][1].time),))
    round_ = Round(events, marks)
    wanted = {key: dict(gain.delta) for key, gain in round_.fold().items()}
    assert max(map(len, wanted.values())) > 331, "DynamoDB would take it at once"

    async def use(client: Any, settings: AnalyticsSettings) -> None:
        store = DynamoAggregates(client, settings.aggregates_table)
        # Killed after the first half, then from the beginning; and once more.
        assert await merge(store, SOURCE, round_.halves()[0]) == {}
        for _ in range(2):
            assert await merge(store, SOURCE, round_) == {}
        for key, delta in wanted.items():
            partition, sort = keys_of(key, SOURCE)
            answer = await client.get_item(
                TableName=settings.aggregates_table,
                Key={"pk": {"S": partition}, "sk": {"S": sort}},
            )
            item = {n: int(v["N"]) for n, v in answer["Item"].items() if n not in {"pk", "sk"}}
            assert item.pop("upto") == len(made) - 1
            assert item == delta, key

    asyncio.run(on_a_table(components, use))


class TakesNothing:
    """A store that refuses all, as one with other keys than ours does."""

    async def apply(self, source: Source, updates: Sequence[ItemUpdate]) -> Mapping[ItemKey, int]:
        raise ItemsInvalid({}, "other keys")


def test_a_store_that_takes_no_item_at_all_halts_and_no_event_becomes_a_letter() -> None:
    events = [(one.offset, decode(one.value)) for one in records()]
    with pytest.raises(StoreRefused, match="other keys"):
        asyncio.run(merge(TakesNothing(), SOURCE, Round(events)))


class FullBeyond:
    """A store whose full item still takes what comes before an offset."""

    def __init__(self, full: ItemKey, offset: int) -> None:
        self._full = full
        self._offset = offset
        self.merged: dict[ItemKey, int] = {}

    async def apply(self, source: Source, updates: Sequence[ItemUpdate]) -> Mapping[ItemKey, int]:
        refused = {one.key: self.merged[one.key] for one in updates if one.key in self.merged}
        if below := {key: upto for key, upto in refused.items() if upto >= _first(updates, key)}:
            return below
        for one in updates:
            if one.key == self._full and one.last >= self._offset:
                raise ItemsInvalid({one.key: "full"}, "full")
        self.merged |= {one.key: one.last for one in updates}
        return {}


def _first(updates: Sequence[ItemUpdate], key: ItemKey) -> int:
    return next(one.first for one in updates if one.key == key)


def of_one_product(number: int) -> list[tuple[int, DecodedEvent]]:
    """Payments in so many currencies, for one seller."""
    codes = [a + b + "X" for a in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for b in "ABCDEFGHIJKLMNOP"]
    bodies = [order_body(code, "s", [("p1", 1, 500)], currency=code) for code in codes[:number]]
    made = [event("order.paid", body, subject=body["id"], seller="s") for body in bodies]
    return [(offset, decode(one.value)) for offset, one in enumerate(made)]


@pytest.mark.parametrize("number", [4, 400], ids=["one try after another", "halves"])
def test_of_an_item_that_is_full_only_the_events_it_lacks_become_letters(number: int) -> None:
    """What it had merged before, in an earlier try or half, is counted and gets no letter."""
    store, events = FullBeyond(FULL, number // 2), of_one_product(number)

    async def run() -> Mapping[ItemKey, Invalid]:
        if number < 100:
            assert await merge(store, SOURCE, Round(events[: number // 2])) == {}
        return await merge(store, SOURCE, Round(events))

    invalid = asyncio.run(run())
    assert {key: one.offsets for key, one in invalid.items()} == {
        FULL: tuple(range(number // 2, number))
    }
