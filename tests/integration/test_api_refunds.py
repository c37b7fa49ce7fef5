"""Refunds: exact in parts, once each under any race, and stock comes back only before shipping."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

from shopstream_shared.events.codec import decode
from shopstream_shared.events.payloads import OrderRefunded

PAID = ("confirm", "pay")
SHIPPED = (*PAID, "ship")
DELIVERED = (*SHIPPED, "deliver")


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        yield running


def _order(api: InProcess, actions: tuple[str, ...], *lines: tuple[str, int]) -> dict[str, Any]:
    items = [{"productId": pid, "quantity": count} for pid, count in lines]
    placed = api.post("/orders", {"items": items})
    assert placed.status_code == 201, placed.text
    order: dict[str, Any] = placed.json()
    for action in actions:
        order = api.post(f"/orders/{order['id']}/{action}").json()
    return order


def _refund(api: InProcess, order: dict[str, Any], body: object = None) -> httpx.Response:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return api.post(f"/orders/{order['id']}/refunds", body, headers=headers)


def _events(api: InProcess, *subjects: str) -> list[tuple[Any, ...]]:
    return api.query(
        "SELECT type, (convert_from(payload, 'UTF8')::json->>'sequence')::int FROM outbox"
        " WHERE aggregateid = ANY(%s) AND type NOT IN ('product.created') ORDER BY seq",
        list(subjects),
    )


def _steps(api: InProcess, order: dict[str, Any]) -> list[tuple[Any, ...]]:
    history = api.get(f"/orders/{order['id']}/history").json()["data"]
    return [(step["version"], step["status"], step["reason"]) for step in history]


def test_a_partial_refund_leaves_the_status_and_takes_one_version(api: InProcess) -> None:
    product = api.product(stock=9, price=10)["id"]
    order = _order(api, DELIVERED, (product, 2))
    answer = _refund(api, order, {"amountMinor": 500, "reason": "scratched"})
    assert answer.status_code == 201, answer.text
    assert answer.headers["etag"] == '"v6"'
    shown = answer.json()
    assert shown == {**order, "refundedMinor": 500, "version": 6, "updatedAt": shown["updatedAt"]}
    assert api.get(f"/orders/{order['id']}").json() == shown
    assert _steps(api, order)[-1] == (6, "delivered", "scratched")
    # Its event carries this step's amount, and the audit of events the same.
    ((payload,),) = api.query(
        "SELECT payload FROM outbox WHERE aggregateid = %s AND type = 'order.refunded'", order["id"]
    )
    assert isinstance(decode(payload).payload, OrderRefunded)
    assert json.loads(payload)["data"] == {**shown, "refundAmountMinor": 500}
    audited = api.query(
        "SELECT sequence, amount_minor, currency FROM event_audit"
        " WHERE subject = %s AND amount_minor IS NOT NULL ORDER BY sequence",
        order["id"],
    )
    assert audited == [(3, 2_000, "USD"), (6, 500, "USD")]
    assert api.get(f"/products/{product}").json()["stock"] == 7


def test_refunds_in_parts_end_with_the_last_of_it(api: InProcess) -> None:
    product = api.product(stock=9, price=10)["id"]
    order = _order(api, SHIPPED, (product, 1))
    assert _refund(api, order, {"amountMinor": 1}).json()["status"] == "shipped"
    assert _refund(api, order, {"amountMinor": 998}).json()["refundedMinor"] == 999
    too_large = _refund(api, order, {"amountMinor": 2})
    assert (too_large.status_code, too_large.json()["code"]) == (422, "refund_too_large")
    assert [fault["pointer"] for fault in too_large.json()["errors"]] == ["/amountMinor"]
    last = _refund(api, order)
    assert (last.status_code, last.json()["status"]) == (201, "refunded")
    assert (last.json()["refundedMinor"], last.json()["totalMinor"]) == (1_000, 1_000)
    again = _refund(api, order)
    assert (again.status_code, again.json()["code"]) == (409, "illegal_transition")
    assert (again.json()["from"], again.json()["to"], again.json()["allowed"]) == (
        "refunded",
        "refunded",
        [],
    )
    assert _events(api, order["id"])[-3:] == [("order.refunded", step) for step in (5, 6, 7)]
    amounts = api.query(
        "SELECT refund_minor FROM order_history WHERE order_id = %s ORDER BY version", order["id"]
    )
    assert amounts == [(None,)] * 4 + [(1,), (998,), (1,)]
    # Shipped goods are not on the shelf.
    assert api.get(f"/products/{product}").json()["stock"] == 8


def test_a_full_refund_before_shipping_gives_the_stock_back(api: InProcess) -> None:
    one, two = api.product(stock=6)["id"], api.product(stock=2)["id"]
    order = _order(api, PAID, (one, 2), (two, 2))
    assert _refund(api, order, {"amountMinor": 1}).json()["status"] == "paid"
    assert api.get(f"/products/{one}").json()["stock"] == 4
    assert _refund(api, order, {"reason": "sold out"}).json()["status"] == "refunded"
    for product, stock in ((one, 6), (two, 2)):
        level = api.get(f"/products/{product}/inventory").json()
        assert (level["stock"], level["reserved"]) == (stock, 0)
    # Cause before effect: the order, then what it gives back.
    assert _events(api, order["id"], one, two)[-4:] == [
        ("order.refunded", 4),
        ("order.refunded", 5),
        ("inventory.released", 3),
        ("inventory.released", 3),
    ]
    ((released,),) = api.query(
        "SELECT convert_from(payload, 'UTF8')::json->'data' FROM outbox WHERE aggregateid = %s"
        " AND type = 'inventory.released'",
        one,
    )
    assert (released["delta"], released["reason"], released["orderId"]) == (
        2,
        "refunded",
        order["id"],
    )


def test_an_order_refunded_in_part_and_shipped_then_gives_no_stock_back(api: InProcess) -> None:
    product = api.product(stock=5, price=3)["id"]
    order = _order(api, PAID, (product, 2))
    assert _refund(api, order, {"amountMinor": 100}).status_code == 201
    shipped = api.post(f"/orders/{order['id']}/ship")
    assert (shipped.status_code, shipped.json()["refundedMinor"]) == (200, 100)
    assert _refund(api, order).json()["status"] == "refunded"
    assert api.get(f"/products/{product}").json()["stock"] == 3


def test_stock_of_a_deleted_product_comes_back_too(api: InProcess) -> None:
    product = api.product(stock=5)["id"]
    order = _order(api, PAID, (product, 2))
    assert api.request("DELETE", f"/products/{product}").status_code == 204
    assert _refund(api, order).status_code == 201
    assert api.query("SELECT stock FROM products WHERE id = %s", product) == [(5,)]


def test_a_refund_never_fails_for_want_of_room(api: InProcess) -> None:
    product = api.product(stock=10**9)["id"]
    order = _order(api, PAID, (product, 7))
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    refill = {"delta": 7, "reason": "delivered"}
    path = f"/products/{product}/stock-adjustments"
    assert api.post(path, refill, headers=headers).status_code == 201
    assert _refund(api, order).status_code == 201
    assert api.get(f"/products/{product}").json()["stock"] == 10**9 + 7


@pytest.mark.parametrize("actions", [(), ("confirm",), ("cancel",)])
def test_what_was_not_paid_cannot_be_refunded(api: InProcess, actions: tuple[str, ...]) -> None:
    order = _order(api, actions, (api.product(stock=1)["id"], 1))
    # The state is asked before the amount.
    answer = _refund(api, order, {"amountMinor": 10**15})
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal_transition")
    assert (answer.json()["from"], answer.json()["to"]) == (order["status"], "refunded")


def test_nothing_is_left_of_an_order_that_cost_nothing(api: InProcess) -> None:
    order = _order(api, PAID, (api.product(stock=1, price=0)["id"], 1))
    answer = _refund(api, order)
    assert (answer.status_code, answer.json()["code"]) == (422, "refund_too_large")


@pytest.mark.parametrize(
    "body",
    [
        {"amountMinor": 0},
        {"amountMinor": -1},
        {"amountMinor": 1.5},
        {"amountMinor": "1"},
        {"amountMinor": None},
        {"amountMinor": True},
        {"reason": ""},
        {"reason": " "},
        {"reason": "x" * 201},
        {"reason": "a\nb"},
        {"amount": 1},
        [],
    ],
)
def test_a_body_that_breaks_a_rule_is_refused(api: InProcess, body: object) -> None:
    order = _order(api, PAID, (api.product(stock=1)["id"], 1))
    answer = _refund(api, order, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert api.get(f"/orders/{order['id']}").json() == order


def test_a_refund_needs_a_key_and_its_replay_gives_nothing_more(api: InProcess) -> None:
    order = _order(api, PAID, (api.product(stock=1, price=9)["id"], 1))
    path = f"/orders/{order['id']}/refunds"
    keyless = api.post(path, {"amountMinor": 1})
    assert (keyless.status_code, keyless.json()["code"]) == (400, "idempotency_key_required")
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first = api.post(path, {"amountMinor": 1}, headers=headers)
    replay = api.post(path, {"amountMinor": 1}, headers=headers)
    assert (replay.status_code, replay.content) == (201, first.content)
    assert replay.headers["idempotent-replayed"] == "true"
    assert api.get(f"/orders/{order['id']}").json()["refundedMinor"] == 1


def test_another_sellers_order_is_not_there(api: InProcess) -> None:
    order = _order(api, PAID, (api.product(stock=1)["id"], 1))
    headers = {"X-Seller-Id": "somebody-else", "Idempotency-Key": "k"}
    assert api.post(f"/orders/{order['id']}/refunds", {}, headers=headers).status_code == 404
    assert api.post(f"/orders/{uuid.uuid4()}/refunds", {}, headers=headers).status_code == 404


def test_parallel_refunds_never_give_back_more_than_was_paid(api: InProcess) -> None:
    order = _order(api, PAID, (api.product(stock=1, price=10)["id"], 1))
    path = f"/orders/{order['id']}/refunds"

    async def all_at_once() -> list[httpx.Response]:
        return await asyncio.gather(
            *(
                api.client.post(path, json={"amountMinor": 150}, headers={"Idempotency-Key": key})
                for key in (uuid.uuid4().hex for _ in range(12))
            )
        )

    answers = api.run(all_at_once)
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [201] * 6 + [422] * 6
    assert api.get(f"/orders/{order['id']}").json()["refundedMinor"] == 900
    assert _steps(api, order)[-1][0] == 9
