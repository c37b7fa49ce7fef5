"""Counting: the fold against the contract's words, and how updates are cut and trimmed."""

from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest
from tests.support.analytics import short
from tests.support.analytics_events import (
    DAY,
    Shop,
    event,
    inventory_body,
    naive_counts,
    order_body,
)

from shopstream_analytics.aggregates.amounts import refund_shares
from shopstream_analytics.aggregates.definitions import STORED
from shopstream_analytics.aggregates.fold import ItemKey, fold
from shopstream_analytics.aggregates.keys import SALES_SHARDS, keys_of, parse, shard_of
from shopstream_analytics.aggregates.merge import Round
from shopstream_analytics.aggregates.timeliness import PartitionTime, mark
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.events import KEY_BYTES_MAX
from shopstream_shared.events.codec import DecodedEvent, EncodedEvent, decode
from shopstream_shared.events.payloads import OrderItem

LINES = [("p1", 1, 1_000), ("p2", 2, 500), ("p3", 1, 1)]


def decoded(events: list[EncodedEvent]) -> list[tuple[int, DecodedEvent]]:
    return [(number, decode(one.value)) for number, one in enumerate(events)]


def folded(events: list[EncodedEvent]) -> dict[ItemKey, dict[str, int]]:
    numbered = decoded(events)
    marks, _ = mark(numbered, PartitionTime())
    return {key: gain.delta for key, gain in fold(numbered, marks).items()}


def test_a_shop_s_life_counts_as_the_contract_says() -> None:
    shop = Shop(seed=11)
    events = [one for _ in range(200) for one in shop.order_life()]
    naive = naive_counts(one.value for one in events)
    assert {short(key): counters for key, counters in folded(events).items()} == naive


def test_an_event_counts_in_the_utc_hour_and_day_of_its_own_time() -> None:
    body = inventory_body("p1", "s1", 1)
    # Half past one in the east is still the day before in UTC.
    value = event("inventory.updated", body, subject="p1", seller="s1").value.replace(
        b"2026-11-21T00:00:00.000000Z", b"2026-11-22T01:30:00.000000+03:00"
    )
    starts = {(key.granularity, key.start) for key in fold([(0, decode(value))])}
    assert starts == {("hour", "2026-11-21T22:00:00Z"), ("day", "2026-11-21T00:00:00Z")}


def test_a_free_order_names_its_currency_with_zero() -> None:
    body = order_body("o1", "s1", [("p1", 1, 0)])
    counters = folded([event("order.paid", body, subject="o1", seller="s1")])
    assert counters[ItemKey("seller", "s1", "day", "2026-11-21T00:00:00Z")] == {
        "events": 1,
        "byType#order.paid": 1,
        "paidOrders#USD": 1,
        "revenueMinor#USD": 0,
    }


def test_a_product_counts_orders_with_a_line_of_it_once_an_event() -> None:
    body = order_body("o1", "s1", [("p1", 1, 100), ("p2", 1, 100), ("p1", 3, 300)])
    counters = folded([event("order.created", body, subject="o1", seller="s1")])
    mine = counters[ItemKey("product", "p1", "hour", "2026-11-21T00:00:00Z")]
    assert mine == {"events": 1, "byType#order.created": 1, "orders": 1, "units": 4}


def test_an_order_s_stock_change_counts_for_the_product_and_the_seller_not_the_order() -> None:
    one = event("inventory.reserved", inventory_body("p1", "s1", 1), subject="p1", seller="s1")
    assert {(key.dimension, key.id) for key in folded([one])} == {
        ("seller", "s1"),
        ("product", "p1"),
        ("all", "event-types"),
    }


def test_refund_shares_are_proportional_with_the_remainder_on_the_first_line() -> None:
    items = tuple(
        OrderItem(
            product_id=product,
            name=product,
            quantity=quantity,
            unit_price=Decimal(1),
            unit_price_minor=1,
            total_minor=minor,
        )
        for product, quantity, minor in LINES
    )
    assert refund_shares(items, 1_501, 100) == [67, 33, 0]
    assert refund_shares(items, 1_501, 1_501) == [1_000, 500, 1]
    assert refund_shares(items, 0, 0) == [0, 0, 0]


def test_a_full_refund_in_steps_ends_at_zero_for_every_product() -> None:
    whole = sum(line[2] for line in LINES)
    events = [event("order.paid", order_body("o1", "s1", LINES), subject="o1", seller="s1")]
    refunded = 0
    for step in (1, 7, 700, whole - 708):
        refunded += step
        body = order_body("o1", "s1", LINES, refunded=refunded) | {"refundAmountMinor": step}
        events.append(event("order.refunded", body, subject="o1", seller="s1"))
    counters = folded(events)
    for product, _, _ in LINES:
        mine = counters[ItemKey("product", product, "hour", "2026-11-21T00:00:00Z")]
        assert mine["revenueMinor#USD"] == 0


@pytest.mark.parametrize(
    "key",
    [
        ItemKey("seller", "a#b#hour#1", "day", "2026-11-21T00:00:00Z"),
        ItemKey("sellerProduct", "a#7", "day", "2026-11-21T00:00:00Z", "p#1"),
        ItemKey("sellerProduct", "a", "day", "2026-11-21T00:00:00Z", ""),
    ],
    ids=["seller", "seller and product", "no product"],
)
def test_an_item_s_name_can_be_read_back_whatever_the_ids_hold(key: ItemKey) -> None:
    source = Source("shop.orders", 12)
    assert parse(*keys_of(key, source)) == (key, source)


def test_an_item_s_name_fits_dynamodb_s_keys_with_the_longest_ids() -> None:
    name = "x" * KEY_BYTES_MAX
    key = ItemKey("sellerProduct", name, "day", "2026-11-21T00:00:00Z", name)
    partition, sort = keys_of(key, Source("t" * 249, 99_999))
    assert len(partition.encode()) <= 2_048
    assert len(sort.encode()) <= 1_024


def test_what_a_seller_sells_spreads_over_all_shards() -> None:
    shards = Counter(shard_of(f"product-{number}") for number in range(8_000))
    assert sorted(shards) == list(range(SALES_SHARDS))
    assert max(shards.values()) < 2 * 8_000 / SALES_SHARDS


def test_every_counter_lands_in_the_dimensions_its_definition_names() -> None:
    shop = Shop(seed=12)
    found = folded([one for _ in range(300) for one in shop.order_life()])
    for metric in STORED:
        dimensions = {
            key.dimension
            for key, delta in found.items()
            for name in delta
            if name == metric.counter or (metric.per and name.startswith(metric.counter))
        }
        assert dimensions == set(metric.dimensions), metric.name


def test_days_are_the_sums_of_their_hours_and_all_the_sum_of_the_sellers() -> None:
    shop = Shop(seed=13)
    found = folded([one for _ in range(100) for one in shop.order_life()])
    hours: dict[tuple[str, str, str], Counter[str]] = {}
    for key, delta in found.items():
        if key.granularity == "hour":
            hours.setdefault((key.dimension, key.id, key.start[:10]), Counter()).update(delta)
    assert {dimension for dimension, _, _ in hours} == {"seller", "product", "all"}
    # Those of products, the most by far, are added up by readers.
    days = {key.dimension for key in found if key.granularity == "day"}
    assert days == {"seller", "all", "sellerProduct"}
    hours = {key: sums for key, sums in hours.items() if key[0] != "product"}
    for (dimension, name, day), sums in hours.items():
        key = ItemKey(dimension, name, "day", f"{day}T00:00:00Z")  # type: ignore[arg-type]  # a dimension read above
        assert found[key] == sums


def test_what_is_left_of_a_round_beyond_an_offset_is_what_its_later_events_give() -> None:
    shop = Shop(seed=14)
    events = decoded([one for _ in range(8) for one in shop.order_life()])
    marks, _ = mark(events, PartitionTime())
    round_ = Round(events, marks)
    for upto in (-1, len(events) // 2, len(events)):
        later = fold([one for one in events if one[0] > upto], marks.after(upto))
        for key in round_.fold():
            assert round_.rest(key, upto) == later.get(key)


def test_a_gain_names_the_first_and_last_event_that_it_is_from() -> None:
    at = [DAY, DAY + timedelta(hours=1), DAY + timedelta(minutes=5)]
    events = [
        event("inventory.updated", inventory_body("p", "s", 1), subject="p", seller="s", at=time)
        for time in at
    ]
    found = fold(decoded(events))
    spans = {
        (key.granularity, key.start[11:13]): (gain.first, gain.last)
        for key, gain in found.items()
        if key.dimension == "seller"
    }
    assert spans == {("hour", "00"): (0, 2), ("hour", "01"): (1, 1), ("day", "00"): (0, 2)}
