"""What orders, their history and the ledger show: these members, no other, and since when."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

POSITION = "p1"


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        # As a relay would write it.
        running.query("UPDATE stream_position SET stream_id = %s RETURNING 1", POSITION)
        yield running


def _order(api: InProcess, *lines: tuple[str, int], **members: object) -> Any:
    items = [{"productId": product, "quantity": count} for product, count in lines]
    return api.post("/orders", {"items": items, **members})


def test_an_order_has_the_members_of_the_contract_in_answers_and_events(api: InProcess) -> None:
    product = api.product(name="Cup", price=2.5, stock=9)["id"]
    answer = _order(api, (product, 3), customerId="c1")
    order = answer.json()
    assert order == {
        "id": order["id"],
        "status": "pending",
        "customerId": "c1",
        "sellerId": "seller1",
        "items": [
            {
                "productId": product,
                "name": "Cup",
                "quantity": 3,
                "unitPrice": 2.5,
                "unitPriceMinor": 250,
                "totalMinor": 750,
            }
        ],
        "subtotalMinor": 750,
        "taxMinor": 0,
        "shippingMinor": 0,
        "total": 7.5,
        "totalMinor": 750,
        "refundedMinor": 0,
        "currency": "USD",
        "reservedUntil": order["reservedUntil"],
        "cancelReason": None,
        "version": 1,
        "createdAt": order["createdAt"],
        "updatedAt": order["createdAt"],
    }
    ((payload,),) = api.query("SELECT payload FROM outbox WHERE aggregateid = %s", order["id"])
    assert json.loads(payload)["data"] == order
    assert _order(api, (product, 1)).json()["customerId"] is None
    assert _order(api, (product, 1), customerId=None).json()["customerId"] is None
    listed = api.get("/orders?customerId=c1").json()
    assert listed == {"data": [order], "hasMore": False, "nextCursor": None, "prevCursor": None}


def test_a_line_of_the_history_and_of_the_ledger_has_its_members(api: InProcess) -> None:
    product = api.product(stock=9)["id"]
    order = _order(api, (product, 3)).json()
    step = {"version": 1, "status": "pending", "reason": None, "at": order["createdAt"]}
    assert api.get(f"/orders/{order['id']}/history").json()["data"] == [step]
    body = api.get(f"/products/{product}/stock-movements").json()
    (line,) = body.pop("data")
    assert body == {"hasMore": False, "nextCursor": None, "prevCursor": None}
    assert line == {
        "id": line["id"],
        "productId": product,
        "delta": -3,
        "stock": 6,
        "reason": None,
        "reference": None,
        "orderId": order["id"],
        "createdAt": order["createdAt"],
    }


def test_only_the_short_products_are_told_and_nothing_is_taken(api: InProcess) -> None:
    plenty, few, none = (api.product(stock=stock)["id"] for stock in (9, 2, 0))
    answer = _order(api, (few, 2), (plenty, 9), (none, 1), (few, 1))
    assert (answer.status_code, answer.json()["code"]) == (409, "insufficient_stock")
    assert answer.json()["items"] == [
        {"productId": few, "requested": 3, "available": 2},
        {"productId": none, "requested": 1, "available": 0},
    ]
    for product in (plenty, few, none):
        assert api.get(f"/products/{product}/stock-movements").json()["data"] == []


@pytest.mark.parametrize("status", ["draft", "archived"])
def test_only_an_active_product_can_be_ordered(api: InProcess, status: str) -> None:
    product = api.product(stock=9, status=status)["id"]
    answer = _order(api, (product, 1))
    assert (answer.status_code, answer.json()["code"]) == (422, "product_not_available")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/items/0/productId"]


@pytest.mark.parametrize("verb", ["confirm", "cancel"])
@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 200), (b"{}", 200), (b" {} ", 200), (b'{"x":1}', 422), (b"[]", 422), (b"{", 400)],
)
def test_the_body_of_an_action_is_empty(
    api: InProcess, verb: str, content: bytes, status: int
) -> None:
    order = _order(api, (api.product(stock=1)["id"], 1)).json()
    headers = {"Content-Type": "application/json"} if content else {}
    answer = api.post(f"/orders/{order['id']}/{verb}", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert api.get(f"/orders/{order['id']}").json()["version"] == (2 if status == 200 else 1)


def test_reads_tell_the_position_of_the_stream_and_writes_do_not(api: InProcess) -> None:
    product = api.product(stock=9)["id"]
    placed = _order(api, (product, 1))
    path = f"/orders/{placed.json()['id']}"
    confirmed = api.post(f"{path}/confirm")
    tag = confirmed.headers["etag"]
    assert tag == '"v2"'
    unchanged = api.get(path, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert api.get(path, headers={"If-None-Match": placed.headers["etag"]}).status_code == 200
    reads = [api.get(each) for each in (path, "/orders", "/orders?customerId=nobody")]
    assert {read.headers["x-stream-position"] for read in (unchanged, *reads)} == {POSITION}
    assert not [each for each in (placed, confirmed) if "x-stream-position" in each.headers]


def test_an_adjustment_and_a_reason_may_be_as_large_as_the_limits(api: InProcess) -> None:
    product = api.product(stock=10**9)["id"]
    path, headers = f"/products/{product}/stock-adjustments", {"Idempotency-Key": "limits"}
    body = {"delta": -(10**9), "reason": "x" * 200}
    answer = api.post(path, body, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (201, "x" * 200)
    # Straight to nothing: one warning, and the answer tells its version.
    assert (answer.json()["stock"], answer.json()["inventoryVersion"]) == (0, 2)
    put = {"quantity": 3, "expectedQuantity": 0}
    low = api.request("PUT", f"/products/{product}/stock", json=put).json()
    assert (low["inventoryVersion"], low["reason"]) == (3, None)
    # It rose to above nothing, never above the threshold: only out_of_stock is armed again.
    put = {"quantity": 0, "expectedQuantity": 3}
    assert api.request("PUT", f"/products/{product}/stock", json=put).json()["stock"] == 0
    rows = api.query(
        "SELECT type FROM event_audit WHERE subject = %s AND topic = 'shop.inventory'"
        " ORDER BY sequence",
        product,
    )
    emptied = ["inventory.updated", "product.out_of_stock"]
    assert [kind for (kind,) in rows] == [*emptied, "inventory.updated", *emptied]
