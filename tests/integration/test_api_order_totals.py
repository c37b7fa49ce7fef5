"""Lines keep the name and price they were bought at, and totals are exact up to the last unit."""

import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

from shopstream_api.money import PRICE_MINOR_MAX
from shopstream_api.orders.schemas import LINES_MAX, QUANTITY_MAX, TOTAL_MINOR_MAX
from shopstream_shared.events.codec import decode


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        yield running


def _keyed(api: InProcess, path: str, body: object) -> Any:
    answer = api.post(path, body, headers={"Idempotency-Key": uuid.uuid4().hex})
    assert answer.is_success, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("currency", "total"), [("JPY", "1000000000000000000"), ("USD", "10000000000000000.00")]
)
def test_the_largest_order_there_can_be_is_exact_to_the_end(
    api: InProcess, currency: str, total: str
) -> None:
    price = PRICE_MINOR_MAX if currency == "JPY" else PRICE_MINOR_MAX // 100
    item = {"name": "x", "price": price, "currency": currency, "stock": QUANTITY_MAX}
    items = [{**item, "sellerId": "seller1"}] * LINES_MAX
    made = _keyed(api, "/products/bulk", {"items": items})["results"]
    lines = [{"productId": row["product"]["id"], "quantity": QUANTITY_MAX} for row in made]
    placed = api.post("/orders", {"items": lines})
    assert placed.status_code == 201, placed.text
    order = json.loads(placed.content, parse_float=Decimal)
    assert order["totalMinor"] == order["subtotalMinor"] == TOTAL_MINOR_MAX
    assert str(order["total"]) == total
    assert (order["taxMinor"], order["shippingMinor"]) == (0, 0)
    path = f"/orders/{order['id']}"
    for action in ("confirm", "pay"):
        assert api.post(f"{path}/{action}").status_code == 200
    part = _keyed(api, f"{path}/refunds", {"amountMinor": TOTAL_MINOR_MAX - 1})
    assert (part["status"], part["refundedMinor"]) == ("paid", TOTAL_MINOR_MAX - 1)
    assert _keyed(api, f"{path}/refunds", {})["refundedMinor"] == TOTAL_MINOR_MAX
    events = api.query("SELECT payload FROM outbox WHERE aggregateid = %s", order["id"])
    assert {decode(payload).type for (payload,) in events} == {
        *("order.created", "order.confirmed", "order.paid", "order.refunded")
    }
    amounts = api.query(
        "SELECT amount_minor FROM event_audit WHERE subject = %s AND amount_minor IS NOT NULL"
        " ORDER BY sequence",
        order["id"],
    )
    assert amounts == [(TOTAL_MINOR_MAX,), (TOTAL_MINOR_MAX - 1,), (1,)]


def test_an_order_keeps_what_it_was_bought_at(api: InProcess) -> None:
    product = api.product(name="Cup", price=2.35, stock=9)["id"]
    order = api.post("/orders", {"items": [{"productId": product, "quantity": 3}]}).json()
    change = {"name": "Mug", "price": 9, "status": "archived"}
    assert api.request("PATCH", f"/products/{product}", json=change).status_code == 200
    shown = api.get(f"/orders/{order['id']}").json()
    assert shown == order
    assert (shown["items"][0]["name"], shown["items"][0]["unitPriceMinor"]) == ("Cup", 235)
    assert shown["totalMinor"] == 705
    assert api.request("DELETE", f"/products/{product}").status_code == 204
    confirmed = api.post(f"/orders/{order['id']}/confirm").json()
    assert (confirmed["items"], confirmed["total"]) == (order["items"], order["total"])


def test_lines_of_one_product_are_one_line_in_the_order_of_their_first_mention(
    api: InProcess,
) -> None:
    one, two = (api.product(price=price, stock=10**6)["id"] for price in (0.01, 0.1))
    ids = [one, two] * (LINES_MAX // 2)
    lines = [{"productId": pid, "quantity": QUANTITY_MAX} for pid in ids]
    order = api.post("/orders", {"items": lines}).json()
    assert [(item["productId"], item["quantity"]) for item in order["items"]] == [
        (one, QUANTITY_MAX * LINES_MAX // 2),
        (two, QUANTITY_MAX * LINES_MAX // 2),
    ]
    assert [item["totalMinor"] for item in order["items"]] == [500_000, 5_000_000]
    assert order["totalMinor"] == 5_500_000
