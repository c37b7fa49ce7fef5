"""The oracle against cases worked out by hand from the contract."""

import ast
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shopstream_stack.demo import oracle as oracle_module
from shopstream_stack.demo.oracle import Exchange, NotModelled, Oracle, minor
from shopstream_stack.demo.tally import added, normal

Json = Mapping[str, Any]


class Shop:
    """Feeds the oracle with exchanges as short as the cases below can be read."""

    def __init__(self, threshold: int = 5) -> None:
        self.oracle = Oracle(threshold=threshold)

    def send(
        self,
        call: str,
        request: Json | None = None,
        answer: Json | None = None,
        *,
        status: int = 200,
        replayed: bool = False,
    ) -> list[tuple[str, str, int, str]]:
        method, path = call.split()
        events = self.oracle.observe(
            Exchange(
                method=method,
                path=path,
                status=status,
                request=request,
                answer=answer,
                replayed=replayed,
            )
        )
        return [(event.topic, event.subject, event.sequence, event.type) for event in events]

    def product(self, name: str, *, price: str = "10.00", stock: int = 10, **more: Any) -> None:
        body = {"name": name, "price": Decimal(price), "stock": stock, "sellerId": "s1", **more}
        self.send("POST /products", body, {"id": name}, status=201)
        self.oracle.surprises.clear()

    def order(self, order_id: str, **quantities: int) -> list[tuple[str, str, int, str]]:
        items = [{"productId": name, "quantity": count} for name, count in quantities.items()]
        return self.send("POST /orders", {"items": items}, {"id": order_id}, status=201)

    def stock(self, name: str) -> int:
        return self.oracle.products[name].stock


def test_a_created_product_is_one_product_event_and_no_inventory_event() -> None:
    shop = Shop()
    events = shop.send(
        "POST /products",
        {"name": "Test Product", "price": Decimal("99.99"), "stock": 10, "sellerId": "seller1"},
        {
            "id": "p",
            "name": "Test Product",
            "description": None,
            "sku": None,
            "category": None,
            "tags": [],
            "price": Decimal("99.99"),
            "priceMinor": 9999,
            "currency": "USD",
            "stock": 10,
            "sellerId": "seller1",
            "status": "active",
            "version": 1,
            "inventoryVersion": 0,
        },
        status=201,
    )
    assert events == [("shop.products", "p", 1, "product.created")]
    assert shop.oracle.surprises == []
    assert shop.oracle.sellers["seller1"].as_json() == {
        "events": 1,
        "byType": {"product.created": 1},
        "orders": 0,
        "units": 0,
        "cancelled": 0,
        "revenueMinor": {},
        "lowStockWarnings": 0,
        "outOfStock": 0,
    }


def test_a_product_created_below_the_threshold_warns_of_nothing() -> None:
    shop = Shop()
    shop.product("p", stock=2)
    assert [event.type for event in shop.oracle.events] == ["product.created"]


def test_a_change_with_the_price_is_one_price_change_and_another_one_update() -> None:
    shop = Shop()
    shop.product("p")
    both = {"name": "new", "price": Decimal(11)}
    assert shop.send("PATCH /products/p", both) == [
        ("shop.products", "p", 2, "product.price_changed")
    ]
    assert shop.send("PATCH /products/p", {"tags": ["a"]}) == [
        ("shop.products", "p", 3, "product.updated")
    ]


def test_a_change_that_changes_nothing_is_no_event() -> None:
    shop = Shop()
    shop.product("p", description="old")
    same = {"price": Decimal("10.000"), "name": "p"}
    assert shop.send("PATCH /products/p", same) == []
    assert shop.send("PATCH /products/p", {"description": None}) == [
        ("shop.products", "p", 2, "product.updated")
    ]
    assert shop.send("PUT /products/p", {"name": "p", "price": Decimal(10)}) == []


def test_a_deleted_product_takes_one_more_version() -> None:
    shop = Shop()
    shop.product("p")
    assert shop.send("DELETE /api/v1/products/p", status=204) == [
        ("shop.products", "p", 2, "product.deleted")
    ]
    assert shop.oracle.products["p"].deleted


@pytest.mark.parametrize(
    ("stock", "delta", "warnings"),
    [
        (6, -1, ["product.low_stock"]),
        (10, -9, ["product.low_stock"]),
        (5, -1, []),
        (6, -6, ["product.out_of_stock"]),
        (1, -1, ["product.out_of_stock"]),
        (10, -4, []),
        (0, 3, []),
        (3, 3, []),
    ],
)
def test_a_warning_is_a_crossing_and_takes_the_next_inventory_version(
    stock: int, delta: int, warnings: list[str]
) -> None:
    shop = Shop()
    shop.product("p", stock=stock)
    expected = ["inventory.updated", *warnings]
    body = {"delta": delta, "reason": "count"}
    assert shop.send("POST /products/p/stock-adjustments", body, status=201) == [
        ("shop.inventory", "p", place, kind) for place, kind in enumerate(expected, 1)
    ]


def test_a_warning_arms_again_only_above_its_line() -> None:
    shop = Shop()
    shop.product("p", stock=6)
    for quantity, warnings in [(5, 1), (4, 1), (5, 1), (6, 1), (2, 2)]:
        present = shop.stock("p")
        body = {"quantity": quantity, "expectedQuantity": present}
        shop.send("PUT /products/p/stock", body)
        assert shop.oracle.sellers["s1"].low_stock_warnings == warnings


def test_setting_the_present_stock_is_no_event() -> None:
    shop = Shop()
    shop.product("p", stock=7)
    assert shop.send("PUT /products/p/stock", {"quantity": 7, "expectedQuantity": 7}) == []


def test_an_order_is_one_order_event_and_a_reservation_a_product_with_lines_merged() -> None:
    shop = Shop()
    shop.product("p", price="2.50", stock=8)
    shop.product("q", price="1.00", stock=2)
    items = [
        {"productId": "p", "quantity": 1},
        {"productId": "q", "quantity": 2},
        {"productId": "p", "quantity": 3},
    ]
    answer = {
        "id": "o",
        "status": "pending",
        "sellerId": "s1",
        "currency": "USD",
        "totalMinor": 1200,
        "refundedMinor": 0,
        "version": 1,
    }
    assert shop.send("POST /orders", {"items": items}, answer, status=201) == [
        ("shop.orders", "o", 1, "order.created"),
        ("shop.inventory", "p", 1, "inventory.reserved"),
        ("shop.inventory", "p", 2, "product.low_stock"),
        ("shop.inventory", "q", 1, "inventory.reserved"),
        ("shop.inventory", "q", 2, "product.out_of_stock"),
    ]
    assert shop.oracle.surprises == []
    assert (shop.stock("p"), shop.stock("q")) == (4, 0)
    seller, product = shop.oracle.sellers["s1"], shop.oracle.per_product["p"]
    assert (seller.orders, seller.units, seller.events) == (1, 6, 7)
    assert (product.orders, product.units, product.events) == (1, 4, 4)


def test_a_cancelled_order_gives_its_stock_back_without_a_warning() -> None:
    shop = Shop()
    shop.product("p", stock=6)
    shop.order("o", p=6)
    assert shop.send("POST /orders/o/cancel") == [
        ("shop.orders", "o", 2, "order.cancelled"),
        ("shop.inventory", "p", 3, "inventory.released"),
    ]
    assert shop.stock("p") == 6
    assert shop.oracle.sellers["s1"].cancelled == 1
    assert shop.oracle.sellers["s1"].units == 6


def test_revenue_comes_with_the_payment_and_a_full_refund_takes_all_of_it_back() -> None:
    shop = Shop()
    shop.product("p", price="1.00")
    shop.product("q", price="2.00")
    shop.order("o", p=1, q=1)
    for action in ("confirm", "pay"):
        shop.send(f"POST /orders/o/{action}")
    assert shop.oracle.sellers["s1"].revenue_minor == {"USD": 300}
    assert shop.oracle.selling["s1"].as_json()["funnel"] == {
        "confirmed": 1,
        "paid": 1,
        "pending": 1,
    }
    # 100 of 300 refunded: thirds of the lines are 33 and 66, the remainder falls to the first.
    shop.send("POST /orders/o/refunds", {"amountMinor": 100})
    assert shop.oracle.per_product["p"].revenue_minor == {"USD": 66}
    assert shop.oracle.per_product["q"].revenue_minor == {"USD": 134}
    assert shop.stock("p") == 9
    assert shop.send("POST /orders/o/refunds", {}) == [
        ("shop.orders", "o", 5, "order.refunded"),
        ("shop.inventory", "p", 2, "inventory.released"),
        ("shop.inventory", "q", 2, "inventory.released"),
    ]
    assert shop.oracle.orders["o"].status == "refunded"
    selling = shop.oracle.selling["s1"].as_json()
    assert selling["funnel"]["refunded"] == 1
    assert selling["orderValues"] == {
        "USD": {
            "paidOrders": 1,
            "paidMinor": 300,
            "refundedMinor": 300,
            "averageMinor": 300,
            "averageNetMinor": 0,
        }
    }
    for tally in (shop.oracle.sellers["s1"], *shop.oracle.per_product.values()):
        assert tally.as_json()["revenueMinor"] == {}


def test_a_full_refund_after_shipping_gives_no_stock_back() -> None:
    shop = Shop()
    shop.product("p")
    shop.order("o", p=4)
    for action in ("confirm", "pay", "ship"):
        shop.send(f"POST /orders/o/{action}")
    assert shop.send("POST /orders/o/refunds", {}) == [("shop.orders", "o", 5, "order.refunded")]
    assert shop.stock("p") == 6


def test_rejected_and_replayed_writes_and_reads_are_no_events() -> None:
    shop = Shop()
    shop.product("p")
    body = {"delta": -1, "reason": "x"}
    assert shop.send("POST /products/p/stock-adjustments", body, status=409) == []
    assert shop.send("POST /products/p/stock-adjustments", body, status=201, replayed=True) == []
    assert shop.send("GET /products/p") == []
    assert shop.stock("p") == 10


def test_an_answer_that_contradicts_the_model_is_a_surprise() -> None:
    shop = Shop()
    shop.product("p")
    body = {"delta": -1, "reason": "x"}
    answer = {"stock": 8, "inventoryVersion": 1}
    shop.send("POST /products/p/stock-adjustments", body, answer, status=201)
    assert shop.oracle.surprises == ["POST /products/p/stock-adjustments: stock is 8, not 9"]


def test_an_accepted_order_beyond_the_stock_is_a_surprise() -> None:
    shop = Shop()
    shop.product("p", stock=1)
    shop.order("o", p=2)
    assert "stock of p fell to -1" in shop.oracle.surprises


def test_a_command_it_does_not_know_is_refused_loudly() -> None:
    with pytest.raises(NotModelled, match="POST /imports"):
        Shop().send("POST /imports", status=202)


@pytest.mark.parametrize(
    ("price", "currency", "expected"),
    [("99.990", "USD", 9999), ("1E+2", "USD", 10_000), ("500", "JPY", 500), ("1.234", "KWD", 1234)],
)
def test_a_price_is_read_exactly(price: str, currency: str, expected: int) -> None:
    assert minor(Decimal(price), currency) == expected


def test_a_price_with_too_many_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="more digits"):
        minor(Decimal("0.001"), "USD")


def test_totals_compare_without_the_zeros_that_say_nothing() -> None:
    assert normal({"events": 0, "revenueMinor": {"USD": 0, "EUR": 1}}) == {
        "events": 0,
        "revenueMinor": {"EUR": 1},
    }


def test_buckets_add_up_to_totals() -> None:
    shop = Shop()
    shop.product("p")
    shop.order("o", p=6)
    totals = shop.oracle.sellers["s1"].as_json()
    twice = added([totals, totals])
    assert twice["events"] == 2 * totals["events"]
    assert twice["byType"]["order.created"] == 2
    assert added([]) == added([added([])])


def test_it_imports_nothing_of_the_services_nor_of_what_they_share() -> None:
    for name in ("oracle.py", "tally.py"):
        source = Path(oracle_module.__file__).with_name(name).read_text(encoding="utf-8")
        imported = {
            node.module or ""
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ImportFrom)
        }
        ours = {module for module in imported if module.startswith("shopstream")}
        assert ours <= {"shopstream_stack.demo.tally"}
