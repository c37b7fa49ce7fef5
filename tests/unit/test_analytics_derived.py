"""What is worked out from counters when they are read."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopstream_analytics.aggregates.derived import (
    OrderValue,
    ProductSales,
    Timeliness,
    funnel,
    order_values,
    rounded,
    sales_of,
    timeliness,
    top,
)
from shopstream_analytics.aggregates.reader import Series

SOLD = [
    ProductSales("a", 2, 3, {"EUR": 50, "USD": 100}),
    ProductSales("b", 1, 9, {"USD": 100}),
    ProductSales("c", 4, 9, {"EUR": 700}),
    ProductSales("d", 0, 0, {"USD": -5}),
]


@given(st.integers(-(10**38), 10**38), st.integers(1, 10**20))
def test_an_average_is_exact_and_rounds_half_away_from_zero(amount: int, parts: int) -> None:
    found = rounded(amount, parts)
    assert found is not None
    off = abs(Fraction(amount, parts)) - abs(found)
    assert -Fraction(1, 2) <= off < Fraction(1, 2)
    assert found == 0 or (found > 0) == (amount > 0)


def test_without_paid_orders_there_is_no_average() -> None:
    assert order_values({"revenueMinor#USD": -500, "refundedMinor#USD": 500}) == {
        "USD": OrderValue(0, 0, 500, None, None)
    }
    assert order_values({"orders": 3}) == {}


def test_an_order_s_value_is_what_was_paid_and_net_what_was_left() -> None:
    counters = {
        "revenueMinor#EUR": 3_001,
        "paidOrders#EUR": 2,
        "revenueMinor#USD": 900,
        "refundedMinor#USD": 101,
        "paidOrders#USD": 3,
    }
    assert order_values(counters) == {
        "EUR": OrderValue(2, 3_001, 0, 1_501, 1_501),
        "USD": OrderValue(3, 1_001, 101, 334, 300),
    }


def test_a_refund_in_part_reaches_no_state() -> None:
    counters = {"byType#order.refunded": 4, "refundedInFull": 1, "byType#order.created": 9}
    reached = funnel(counters)
    assert reached == {
        "pending": 9,
        "confirmed": 0,
        "paid": 0,
        "shipped": 0,
        "delivered": 0,
        "cancelled": 0,
        "refunded": 1,
    }


def test_late_and_ahead_events_are_told_beside_all() -> None:
    counters = {"events": 9, "lateEvents": 2, "aheadEvents": 1}
    assert timeliness(counters) == Timeliness(9, 2, 1)
    assert timeliness({}) == Timeliness(0, 0, 0)


@pytest.mark.parametrize(
    ("by", "currency", "limit", "ids"),
    [
        ("units", None, 10, ["b", "c", "a", "d"]),
        ("units", None, 2, ["b", "c"]),
        ("revenue", "USD", 10, ["a", "b", "d"]),
        ("revenue", "EUR", 1, ["c"]),
        ("revenue", "JPY", 10, []),
    ],
    ids=["units", "only the first", "equal ones by id", "another currency", "no sales in it"],
)
def test_the_greatest_come_first_and_equal_ones_by_id(
    by: str, currency: str | None, limit: int, ids: list[str]
) -> None:
    found = top(reversed(SOLD), by, currency, limit)  # type: ignore[arg-type]  # one of TOP_BY
    assert [one.product_id for one in found] == ids


def test_a_product_s_sales_tell_currencies_apart() -> None:
    counters = {"orders": 2, "units": 5, "revenueMinor#USD": 7, "revenueMinor#JPY": 0}
    assert sales_of("p", counters) == ProductSales("p", 2, 5, {"JPY": 0, "USD": 7})


def test_a_series_shows_each_view_by_bucket_and_in_total() -> None:
    hours = {
        "2026-11-21T05:00:00Z": Counter(
            {"events": 2, "byType#order.paid": 1, "paidOrders#USD": 1, "revenueMinor#USD": 10}
        ),
        "2026-11-21T06:00:00Z": Counter(
            {"events": 1, "byType#order.paid": 1, "paidOrders#USD": 1, "revenueMinor#USD": 5}
        ),
    }
    series = Series("hour", hours)
    funnel_json = series.funnel_json()
    assert funnel_json["totals"] == {"orders": {**funnel({}), "paid": 2}}
    assert [bucket["start"] for bucket in series.timeliness_json()["buckets"]] == list(hours)  # type: ignore[attr-defined]  # a list, by its docstring
    values = series.order_values_json()
    assert values["totals"] == {
        "currencies": {
            "USD": {
                "paidOrders": 2,
                "paidMinor": 15,
                "refundedMinor": 0,
                "averageMinor": 8,
                "averageNetMinor": 8,
            }
        }
    }
    shown = series.as_json()["totals"]
    assert set(shown) == {  # type: ignore[call-overload]  # a dict, by its docstring
        "events",
        "byType",
        "orders",
        "units",
        "cancelled",
        "revenueMinor",
        "lowStockWarnings",
        "outOfStock",
    }
