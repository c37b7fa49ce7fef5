"""Counting: the fold against the contract's words, and how updates are cut and trimmed."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tests.support.analytics_events import Shop, event, inventory_body, naive_counts, order_body

from shopstream_analytics.aggregates.fold import (
    Contribution,
    ItemKey,
    bucket_start,
    fold,
    refund_shares,
    total,
)
from shopstream_analytics.aggregates.keys import parse, partition_key, sort_key
from shopstream_analytics.aggregates.merge import trim, update_of
from shopstream_analytics.consumer.batch import Source
from shopstream_shared.events.codec import EncodedEvent, decode
from shopstream_shared.events.payloads import OrderItem

LINES = [("p1", 1, 1_000), ("p2", 2, 500), ("p3", 1, 1)]


def folded(events: list[EncodedEvent]) -> dict[ItemKey, dict[str, int]]:
    found = fold((number, decode(e.value)) for number, e in enumerate(events))
    return {key: total(contributions) for key, contributions in found.items()}


def test_a_shop_s_life_counts_as_the_contract_says() -> None:
    shop = Shop(seed=11)
    events = [one for _ in range(200) for one in shop.order_life()]
    naive = naive_counts(one.value for one in events)
    assert {tuple(key): counters for key, counters in folded(events).items()} == naive


def test_an_event_counts_in_the_utc_hour_and_day_of_its_own_time() -> None:
    east = datetime(2026, 11, 22, 1, 30, tzinfo=UTC) + timedelta(0)
    assert bucket_start(east, "hour") == "2026-11-22T01:00:00Z"
    assert bucket_start(east, "day") == "2026-11-22T00:00:00Z"


def test_a_free_order_names_its_currency_with_zero() -> None:
    body = order_body("o1", "s1", [("p1", 1, 0)])
    counters = folded([event("order.paid", body, subject="o1", seller="s1")])
    assert counters[ItemKey("seller", "s1", "day", "2026-11-21T00:00:00Z")] == {
        "events": 1,
        "byType#order.paid": 1,
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
        mine = counters[ItemKey("product", product, "day", "2026-11-21T00:00:00Z")]
        assert mine["revenueMinor#USD"] == 0


def test_an_item_s_name_can_be_read_back_whatever_the_ids_hold() -> None:
    source = Source("shop.orders", 12)
    key = ItemKey("seller", "a#b#hour#1", "day", "2026-11-21T00:00:00Z")
    written = (partition_key(key.dimension, key.id, source), sort_key(key.granularity, key.start))
    assert parse(*written) == (key, source)


def test_an_update_carries_the_first_and_last_offset_and_trimming_keeps_what_is_after() -> None:
    contributions = [Contribution(4, {"events": 1}), Contribution(9, {"events": 1, "orders": 1})]
    key = ItemKey("seller", "s", "hour", "2026-11-21T00:00:00Z")
    update = update_of(key, contributions)
    assert (update.first, update.last, update.delta) == (4, 9, {"events": 2, "orders": 1})
    assert trim(contributions, 4) == contributions[1:]
    assert trim(contributions, 3) == contributions
    assert trim(contributions, 9) == []
