"""Stock and orders as the contract spells them, under concurrency too, on a real database."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.support.api import ApiProcess
from tests.support.components import LocalComponents


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[ApiProcess]:
    # Its end checks all invariants.
    with ApiProcess.beside(session_components, SHOPSTREAM_RELAY="off") as process:
        yield process


def _adjust(api: ApiProcess, product: str, body: Any, key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    return api.client.post(f"/products/{product}/stock-adjustments", json=body, headers=headers)


def _events(api: ApiProcess, *subjects: str) -> list[tuple[str, int]]:
    """Types and sequences in the order in which they will be published."""
    return api.query(
        "SELECT type, (convert_from(payload, 'UTF8')::json->>'sequence')::int FROM outbox"
        " WHERE aggregateid = ANY(%s) ORDER BY seq",
        list(subjects),
    )


def _data(api: ApiProcess, subject: str) -> list[dict[str, Any]]:
    rows = api.query(
        "SELECT convert_from(payload, 'UTF8')::json->'data' FROM outbox WHERE aggregateid = %s"
        " AND topic = 'shop.inventory' ORDER BY seq",
        subject,
    )
    return [row[0] for row in rows]


def test_an_adjustment_changes_stock_and_tells_the_last_version(api: ApiProcess) -> None:
    product = api.product(stock=10)["id"]
    answer = _adjust(api, product, {"delta": -2, "reason": "damaged"})
    assert answer.status_code == 201
    assert answer.json() == {
        "productId": product,
        "stock": 8,
        "delta": -2,
        "reason": "damaged",
        "inventoryVersion": 1,
    }
    # Crossing the threshold takes a second version, which the answer tells.
    assert _adjust(api, product, {"delta": -5, "reason": "lost"}).json()["inventoryVersion"] == 3
    assert _adjust(api, product, {"delta": -3, "reason": "lost"}).json()["inventoryVersion"] == 5
    assert [entry for entry in _events(api, product) if entry[0] != "product.created"] == [
        ("inventory.updated", 1),
        ("inventory.updated", 2),
        ("product.low_stock", 3),
        ("inventory.updated", 4),
        ("product.out_of_stock", 5),
    ]
    low, out = (d for d in _data(api, product) if d["threshold"] is not None)
    assert (low["stock"], low["delta"], low["reason"], low["threshold"]) == (3, -5, "lost", 5)
    assert (out["stock"], out["delta"], out["orderId"], out["threshold"]) == (0, -3, None, 0)
    shown = api.client.get(f"/products/{product}").json()
    assert (shown["version"], shown["inventoryVersion"]) == (1, 5)


def test_a_trace_that_cannot_be_one_is_left_out_of_events(api: ApiProcess) -> None:
    good = f"00-{'a' * 32}-{'b' * 16}-01"
    for sent, kept in ((good, good), (f"{good}-{'x' * 9_000}", None), (good.upper(), None)):
        headers = {"traceparent": sent}
        body = {"name": "x", "price": 1, "sellerId": "s1"}
        made = api.client.post("/products", json=body, headers=headers).json()["id"]
        rows = api.query(
            "SELECT convert_from(payload, 'UTF8')::json->>'traceparent' FROM outbox"
            " WHERE aggregateid = %s",
            made,
        )
        assert rows == [(kept,)]


def test_stock_never_falls_below_zero(api: ApiProcess) -> None:
    product = api.product(stock=1)["id"]
    answer = _adjust(api, product, {"delta": -2, "reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "insufficient_stock")
    assert answer.json()["items"] == [{"productId": product, "requested": 2, "available": 1}]
    for body in (
        {"delta": 0, "reason": "x"},
        {"delta": 1},
        {"delta": 1, "reason": ""},
        {"delta": 1, "reason": "x" * 201},
        {"delta": 1.5, "reason": "x"},
        {"delta": 10**9, "reason": "x"},
    ):
        assert _adjust(api, product, body).status_code == 422, body
    keyless = api.client.post(
        f"/products/{product}/stock-adjustments", json={"delta": 1, "reason": "x"}
    )
    assert (keyless.status_code, keyless.json()["code"]) == (400, "idempotency_key_required")


def test_stock_is_set_only_by_who_knows_it(api: ApiProcess) -> None:
    product = api.product(stock=7)["id"]
    url = f"/products/{product}/stock"
    answer = api.client.put(url, json={"quantity": 9, "expectedQuantity": 7})
    assert answer.status_code == 200
    assert answer.json() == {
        "productId": product,
        "stock": 9,
        "delta": 2,
        "reason": None,
        "inventoryVersion": 1,
    }
    stale = api.client.put(url, json={"quantity": 1, "expectedQuantity": 7})
    assert (stale.status_code, stale.json()["code"]) == (412, "version_mismatch")
    equal = api.client.put(url, json={"quantity": 9, "expectedQuantity": 9})
    assert (equal.status_code, equal.json()["inventoryVersion"]) == (200, 1)
    assert api.client.put(url, json={"quantity": 9}).status_code == 422
    assert len(_data(api, product)) == 1


def test_stock_leaves_room_for_what_a_cancel_gives_back(api: ApiProcess) -> None:
    product = api.product(stock=10**9)["id"]
    order = api.order((product, 5)).json()["id"]
    assert _adjust(api, product, {"delta": 1, "reason": "x"}).status_code == 422
    wanted = {"quantity": 10**9, "expectedQuantity": 10**9 - 5}
    assert api.client.put(f"/products/{product}/stock", json=wanted).status_code == 422
    assert _adjust(api, product, {"delta": -1, "reason": "x"}).status_code == 201
    assert _adjust(api, product, {"delta": 1, "reason": "x"}).status_code == 201
    assert api.client.post(f"/orders/{order}/cancel").status_code == 200
    assert api.client.get(f"/products/{product}").json()["stock"] == 10**9


def test_an_order_takes_stock_and_a_cancel_gives_it_back(api: ApiProcess) -> None:
    one, two = api.product(stock=10, price=2.5), api.product(stock=3, price=10)
    placed = api.order((one["id"], 2), (two["id"], 3), (one["id"], 1))
    assert placed.status_code == 201
    order = placed.json()
    assert placed.headers["location"] == f"/orders/{order['id']}"
    assert placed.headers["etag"] == '"v1"'
    assert order["items"] == [
        {
            "productId": one["id"],
            "name": one["name"],
            "quantity": 3,
            "unitPrice": 2.5,
            "unitPriceMinor": 250,
            "totalMinor": 750,
        },
        {
            "productId": two["id"],
            "name": two["name"],
            "quantity": 3,
            "unitPrice": 10,
            "unitPriceMinor": 1_000,
            "totalMinor": 3_000,
        },
    ]
    assert (order["status"], order["total"], order["totalMinor"]) == ("pending", 37.5, 3_750)
    assert order["reservedUntil"] > order["createdAt"]
    assert api.client.get(f"/orders/{order['id']}").content == placed.content
    assert api.client.get(f"/products/{one['id']}/inventory").json() == {
        "productId": one["id"],
        "stock": 7,
        "reserved": 3,
        "onHand": 10,
        "threshold": 5,
        "inventoryVersion": 1,
    }
    cancelled = api.client.post(f"/orders/{order['id']}/cancel")
    assert cancelled.status_code == 200
    assert (cancelled.json()["status"], cancelled.json()["version"]) == ("cancelled", 2)
    assert (cancelled.json()["cancelReason"], cancelled.json()["reservedUntil"]) == (
        "requested",
        None,
    )
    assert api.client.get(f"/products/{two['id']}").json()["stock"] == 3
    again = api.client.post(f"/orders/{order['id']}/cancel", json={})
    assert (again.status_code, again.json()["code"]) == (409, "illegal_transition")
    assert (again.json()["from"], again.json()["to"], again.json()["allowed"]) == (
        "cancelled",
        "cancelled",
        [],
    )
    # Cause before effect, a warning right after its cause.
    assert _events(api, order["id"], one["id"], two["id"])[2:] == [
        ("order.created", 1),
        ("inventory.reserved", 1),
        ("inventory.reserved", 1),
        ("product.out_of_stock", 2),
        ("order.cancelled", 2),
        ("inventory.released", 2),
        ("inventory.released", 3),
    ]
    reserved, released = _data(api, one["id"])
    assert (reserved["delta"], reserved["reason"], reserved["orderId"]) == (-3, None, order["id"])
    assert (released["delta"], released["reason"]) == (3, "requested")
    history = api.client.get(f"/orders/{order['id']}/history").json()["data"]
    assert [(step["version"], step["status"], step["reason"]) for step in history] == [
        (1, "pending", None),
        (2, "cancelled", "requested"),
    ]


def test_an_order_that_cannot_be_is_refused_whole(api: ApiProcess) -> None:
    mine, draft = api.product(stock=5), api.product(stock=5, status="draft")
    others = api.product(stock=5, sellerId="seller2")
    euro = api.product(stock=5, currency="EUR")

    def refused(*lines: tuple[str, int]) -> tuple[int, str]:
        answer = api.order(*lines)
        return answer.status_code, answer.json()["code"]

    assert refused((mine["id"], 1), (str(uuid.uuid4()), 1)) == (422, "product_not_available")
    assert refused((mine["id"], 1), ("nonsense", 1)) == (422, "product_not_available")
    assert refused((mine["id"].upper(), 1)) == (422, "product_not_available")
    assert refused((draft["id"], 1)) == (422, "product_not_available")
    answer = api.order(("nonsense", 1), (mine["id"], 1), (str(uuid.uuid4()), 1), (draft["id"], 1))
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [
        "/items/0/productId",
        "/items/2/productId",
        "/items/3/productId",
    ]
    assert refused((mine["id"], 1), (others["id"], 1)) == (422, "mixed_sellers")
    assert refused((mine["id"], 1), (euro["id"], 1)) == (422, "mixed_currencies")
    short = api.order((mine["id"], 3), (euro["id"], 0))
    assert (short.status_code, short.json()["errors"][0]["pointer"]) == (422, "/items/1/quantity")
    lines = api.order((mine["id"], 4), (mine["id"], 2))
    assert lines.status_code == 409
    assert lines.json()["items"] == [{"productId": mine["id"], "requested": 6, "available": 5}]
    bodies: tuple[dict[str, Any], ...] = (
        {},
        {"items": []},
        {"items": [{"productId": mine["id"], "quantity": 1}] * 101},
        {"items": [{"productId": mine["id"], "quantity": 10_001}]},
        {"items": [{"productId": mine["id"]}]},
        {"items": [5]},
        {"items": [{"productId": mine["id"], "quantity": 1}], "total": 5},
    )
    for body in bodies:
        assert api.client.post("/orders", json=body).status_code == 422, body
    assert api.client.get(f"/products/{mine['id']}").json()["stock"] == 5


def test_orders_are_seen_by_their_seller_and_listed_by_filters(api: ApiProcess) -> None:
    seller, customer = f"s-{uuid.uuid4().hex}", f"c-{uuid.uuid4().hex}"
    product = api.product(stock=50, sellerId=seller)["id"]
    body = {"customerId": customer, "items": [{"productId": product, "quantity": 1}]}
    buyer = {"X-Seller-Id": "somebody-else"}
    made = [api.client.post("/orders", json=body, headers=buyer).json()["id"] for _ in range(3)][
        ::-1
    ]
    assert api.client.get(f"/orders/{made[0]}", headers=buyer).status_code == 404
    assert api.client.post(f"/orders/{made[0]}/cancel", headers=buyer).status_code == 404
    assert api.client.get(f"/orders/{made[0]}", headers={"X-Seller-Id": seller}).is_success

    def ids(query: str) -> list[str]:
        return [row["id"] for row in api.client.get(f"/orders?{query}").json()["data"]]

    assert ids(f"customerId={customer}") == made
    assert ids(f"sellerId={seller}&status=cancelled") == []
    page = api.client.get(f"/orders?customerId={customer}&limit=2").json()
    assert [row["id"] for row in page["data"]] == made[:2]
    assert ids(f"customerId={customer}&limit=2&cursor={page['nextCursor']}") == made[2:]
    assert api.client.get("/orders/transitions").json()["pending"] == ["confirmed", "cancelled"]


def test_an_order_goes_its_way_and_paid_units_are_no_longer_held(api: ApiProcess) -> None:
    product = api.product(stock=9)["id"]
    order = api.order((product, 2)).json()
    for verb, status in (
        ("confirm", "confirmed"),
        ("pay", "paid"),
        ("ship", "shipped"),
        ("deliver", "delivered"),
    ):
        answer = api.client.post(f"/orders/{order['id']}/{verb}")
        assert (answer.status_code, answer.json()["status"]) == (200, status), answer.text
    inventory = api.client.get(f"/products/{product}/inventory").json()
    assert (inventory["stock"], inventory["reserved"], inventory["inventoryVersion"]) == (7, 0, 1)
    assert api.client.post(f"/orders/{order['id']}/cancel").status_code == 409
    assert [kind for kind, _ in _events(api, order["id"])] == [
        "order.created",
        "order.confirmed",
        "order.paid",
        "order.shipped",
        "order.delivered",
    ]


def test_orders_over_the_same_products_in_opposite_order_do_not_deadlock(api: ApiProcess) -> None:
    one, two = api.product(stock=200)["id"], api.product(stock=200)["id"]

    def buy(number: int) -> int:
        lines = [(one, 1), (two, 1)]
        return api.order(*(lines if number % 2 else lines[::-1])).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(buy, range(60))) == {201}


def test_a_keyed_create_is_replayed_to_the_byte(api: ApiProcess) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"name": "x", "price": 1.50, "sellerId": "s1"}
    first = api.client.post("/products", json=body, headers=key)
    again = api.client.post("/products", json=dict(reversed(body.items())), headers=key)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    # The key belongs to the seller: another one's is another.
    other = api.client.post("/products", json={**body, "sellerId": "s2"}, headers=key)
    assert other.status_code == 201
    assert other.json()["id"] != first.json()["id"]


def test_a_stranger_cannot_use_up_a_sellers_key(api: ApiProcess) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"name": "x", "price": 1, "sellerId": "owner"}
    stranger = {**key, "X-Seller-Id": "stranger"}
    refused = api.client.post("/products", json=body, headers=stranger)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert api.client.post("/products", json=body, headers=key).status_code == 201


def test_a_refusal_by_a_business_rule_is_replayed_but_a_validation_error_is_not(
    api: ApiProcess,
) -> None:
    product = api.product(stock=0)["id"]
    key = uuid.uuid4().hex
    assert _adjust(api, product, {"delta": -1}, key).status_code == 422
    refused = _adjust(api, product, {"delta": -1, "reason": "x"}, key)
    assert refused.status_code == 409
    assert _adjust(api, product, {"delta": 5, "reason": "x"}).status_code == 201
    replay = _adjust(api, product, {"delta": -1, "reason": "x"}, key)
    assert replay.content == refused.content
    assert replay.headers["idempotent-replayed"] == "true"
    assert _adjust(api, product, {"delta": 1, "reason": "x"}, "x" * 256).status_code == 400
