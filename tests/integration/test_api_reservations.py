"""Reservations, the ledger's lines of them and the low-stock list, on a real database."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

from shopstream_shared.clock import ManualClock, format_time

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOLD = timedelta(seconds=900)


@pytest.fixture(scope="module")
def app(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components, clock=ManualClock(START)) as running:
        yield running


def _reserve(app: InProcess, product: str, body: object, **headers: str) -> httpx.Response:
    return app.post(f"/products/{product}/reservations", body, headers=headers)


def _level(app: InProcess, product: str) -> tuple[int, int, int]:
    """Stock, reserved units and inventory version."""
    found = app.get(f"/products/{product}/inventory").json()
    return found["stock"], found["reserved"], found["inventoryVersion"]


def _events(app: InProcess, product: str) -> list[tuple[str, dict[str, Any]]]:
    """Types and data of the inventory's events, in the order of their publishing."""
    return app.query(
        "SELECT type, convert_from(payload, 'UTF8')::json->'data' FROM outbox"
        " WHERE aggregateid = %s AND topic = 'shop.inventory' ORDER BY seq",
        product,
    )


def test_a_reservation_holds_stock_until_it_is_deleted(app: InProcess) -> None:
    product = app.product(stock=8)["id"]
    made = _reserve(app, product, {"quantity": 3, "reference": "basket 17"})
    assert made.status_code == 201, made.text
    held = made.json()
    assert made.headers["location"] == f"/reservations/{held['id']}"
    assert held == {
        "id": held["id"],
        "productId": product,
        "quantity": 3,
        "reference": "basket 17",
        "reservedUntil": format_time(app.clock.now() + HOLD),
    }
    # Reserved is version 1, the warning of low stock version 2.
    assert _level(app, product) == (5, 3, 2)
    assert app.request("DELETE", made.headers["location"]).status_code == 204
    assert _level(app, product) == (8, 0, 3)
    seen = [(kind, d["delta"], d["stock"], d["reason"]) for kind, d in _events(app, product)]
    assert seen == [
        ("inventory.reserved", -3, 5, None),
        ("product.low_stock", -3, 5, None),
        ("inventory.released", 3, 8, "requested"),
    ]
    assert all(data["orderId"] is None for _, data in _events(app, product))
    lines = app.get(f"/products/{product}/stock-movements").json()["data"]
    assert [(x["delta"], x["reason"], x["reference"], x["orderId"]) for x in lines] == [
        (3, "requested", "basket 17", None),
        (-3, None, "basket 17", None),
    ]
    assert app.query(
        "SELECT action, entity_type FROM audit_log WHERE entity_id = %s ORDER BY id", held["id"]
    ) == [("inventory.reserved", "reservation"), ("inventory.released", "reservation")]


def test_a_reservation_made_under_the_alias_is_found_under_the_alias(app: InProcess) -> None:
    product = app.product(stock=8)["id"]
    made = app.post(f"/api/v1/products/{product}/reservations", {"quantity": 1})
    assert made.headers["location"] == f"/api/v1/reservations/{made.json()['id']}"
    assert app.request("DELETE", made.headers["location"]).status_code == 204


def test_what_has_ended_or_never_was_cannot_be_deleted(app: InProcess) -> None:
    product = app.product(stock=8)["id"]
    held = _reserve(app, product, {"quantity": 1}).json()["id"]
    ordered = app.post("/orders", {"items": [{"productId": product, "quantity": 1}]}).json()["id"]
    ((of_order,),) = app.query("SELECT id FROM reservations WHERE order_id = %s", ordered)
    assert app.request("DELETE", f"/reservations/{held}").status_code == 204
    for gone in (held, str(uuid.uuid4()), "nonsense", str(of_order)):
        answer = app.request("DELETE", f"/reservations/{gone}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), gone
    assert _level(app, product) == (7, 1, 3)


def test_a_reservation_is_its_sellers_business(app: InProcess) -> None:
    product = app.product(stock=8, sellerId="owner")["id"]
    other, owner = {"X-Seller-Id": "other"}, {"X-Seller-Id": "owner"}
    assert _reserve(app, product, {"quantity": 1}, **other).status_code == 404
    held = _reserve(app, product, {"quantity": 1}, **owner).json()["id"]
    assert app.request("DELETE", f"/reservations/{held}", headers=other).status_code == 404
    assert _level(app, product) == (7, 1, 1)
    assert app.request("DELETE", f"/reservations/{held}", headers=owner).status_code == 204


def test_a_reservation_of_more_than_there_is_takes_nothing(app: InProcess) -> None:
    product = app.product(stock=2)["id"]
    short = _reserve(app, product, {"quantity": 3})
    assert (short.status_code, short.json()["code"]) == (409, "insufficient_stock")
    assert short.json()["items"] == [{"productId": product, "requested": 3, "available": 2}]
    assert _level(app, product) == (2, 0, 0)
    last = _reserve(app, product, {"quantity": 2})
    assert last.status_code == 201
    assert [kind for kind, _ in _events(app, product)] == [
        "inventory.reserved",
        "product.out_of_stock",
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"quantity": 0},
        {"quantity": 10_001},
        {"quantity": 1.5},
        {"quantity": "1"},
        {"quantity": 1, "reference": ""},
        {"quantity": 1, "reference": " "},
        {"quantity": 1, "reference": "x" * 201},
        {"quantity": 1, "reference": 5},
        {"quantity": 1, "reference": "a\nb"},
        {"quantity": 1, "reservedUntil": "2030-01-01T00:00:00Z"},
        [],
    ],
)
def test_a_malformed_reservation_is_refused(app: InProcess, body: object) -> None:
    answer = _reserve(app, app.product(stock=2)["id"], body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_a_reference_may_be_null_or_as_long_as_the_limit(app: InProcess) -> None:
    product = app.product(stock=2)["id"]
    assert _reserve(app, product, {"quantity": 1, "reference": None}).json()["reference"] is None
    long = {"quantity": 1, "reference": "x" * 200}
    assert _reserve(app, product, long).json()["reference"] == "x" * 200


def test_a_keyed_reservation_has_one_effect(app: InProcess) -> None:
    product = app.product(stock=9)["id"]
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = _reserve(app, product, {"quantity": 2}, **key)
    again = _reserve(app, product, {"quantity": 2}, **key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert _level(app, product) == (7, 2, 1)


def test_units_held_on_a_deleted_product_come_back_to_its_ledger(app: InProcess) -> None:
    product = app.product(stock=5)["id"]
    held = _reserve(app, product, {"quantity": 2}).json()["id"]
    assert app.request("DELETE", f"/products/{product}").status_code == 204
    assert _reserve(app, product, {"quantity": 1}).status_code == 404
    assert app.request("DELETE", f"/reservations/{held}").status_code == 204
    assert app.query("SELECT stock, reserved FROM products WHERE id = %s", product) == [(5, 0)]


def test_movements_are_listed_in_the_order_of_versions_though_the_clock_stands(
    app: InProcess,
) -> None:
    product = app.product(stock=100)["id"]
    for quantity in range(1, 8):
        assert _reserve(app, product, {"quantity": quantity}).status_code == 201
    url, cursor, seen = f"/products/{product}/stock-movements?limit=3", "", []
    for _ in range(3):
        page = app.get(url + cursor).json()
        seen += [line["delta"] for line in page["data"]]
        cursor = f"&cursor={page['nextCursor']}"
    assert seen == [-7, -6, -5, -4, -3, -2, -1]
    assert page["nextCursor"] is None
    back = app.get(f"{url}&cursor={page['prevCursor']}").json()
    assert [line["delta"] for line in back["data"]] == [-4, -3, -2]


def _low(app: InProcess, query: str, **headers: str) -> list[str]:
    answer = app.get(f"/inventory/low-stock?{query}", headers=headers)
    return [row["productId"] for row in answer.json()["data"]]


@pytest.mark.parametrize("threshold", ["5", "500"])
def test_the_low_stock_list_shows_what_is_at_or_below_the_threshold_newest_first(
    session_components: LocalComponents, threshold: str
) -> None:
    clock = ManualClock(START)
    with in_process(session_components, clock=clock, LOW_STOCK_THRESHOLD=threshold) as app:
        made = {}
        for stock in (0, 3, 501, 5, 6, 500, 0, 2):
            clock.advance(timedelta(seconds=1))
            made[app.product(stock=stock, sellerId="s1")["id"]] = stock
        app.request("DELETE", f"/products/{list(made)[-1]}")
        made.popitem()
        other = app.product(stock=1, sellerId="s2", name="other")["id"]
        low = [pid for pid, stock in made.items() if stock <= int(threshold)][::-1]
        assert _low(app, "") == [other, *low]
        assert _low(app, "sellerId=s1") == low
        assert _low(app, "", **{"X-Seller-Id": "s1"}) == low
        assert _low(app, "sellerId=s2", **{"X-Seller-Id": "s1"}) == []
        answer = app.get("/inventory/low-stock?sellerId=s2")
        assert answer.json() == {
            "data": [
                {
                    "productId": other,
                    "stock": 1,
                    "reserved": 0,
                    "onHand": 1,
                    "threshold": int(threshold),
                    "inventoryVersion": 0,
                    "name": "other",
                    "sellerId": "s2",
                }
            ],
            "hasMore": False,
            "nextCursor": None,
            "prevCursor": None,
        }
        page = app.get("/inventory/low-stock?sellerId=s1&limit=2").json()
        seen = [row["productId"] for row in page["data"]]
        while page["nextCursor"]:
            url = f"/inventory/low-stock?sellerId=s1&limit=2&cursor={page['nextCursor']}"
            page = app.get(url).json()
            seen += [row["productId"] for row in page["data"]]
        assert seen == low
        assert page["prevCursor"] is not None
        wrong = app.get(f"/inventory/low-stock?limit=2&cursor={page['prevCursor']}")
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_cursor")


def test_the_low_stock_table_follows_a_product_through_its_life(app: InProcess) -> None:
    product = app.product(stock=101)["id"]

    def listed() -> list[tuple[int]]:
        return app.query("SELECT stock FROM low_stock WHERE product_id = %s", product)

    assert listed() == []
    held = _reserve(app, product, {"quantity": 2}).json()["id"]
    assert listed() == [(99,)]
    assert app.request("PATCH", f"/products/{product}", json={"name": "other"}).is_success
    assert listed() == [(99,)]
    assert app.request("DELETE", f"/reservations/{held}").is_success
    assert listed() == []
    put = {"quantity": 0, "expectedQuantity": 101}
    assert app.request("PUT", f"/products/{product}/stock", json=put).is_success
    assert listed() == [(0,)]
    assert app.request("DELETE", f"/products/{product}").is_success
    assert listed() == []
    created = app.product(stock=100)["id"]
    assert app.query("SELECT seller_id FROM low_stock WHERE product_id = %s", created) == [
        ("seller1",)
    ]
