"""Each race of orders forced once: two commands meet in the middle, one wins, nothing is torn."""

import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import pytest
from tests.support.app import InProcess, in_process, later
from tests.support.components import LocalComponents
from tests.support.races import race

from shopstream_api.expiry.repository import ExpiryRepository
from shopstream_api.orders.repository import OrderRepository
from shopstream_api.stock.repository import StockRepository
from shopstream_shared.clock import ManualClock

HOLD_SECONDS: Final = 900
#: Whoever has come past these holds the lock.
ORDER: Final = (OrderRepository, "locked")
PRODUCTS: Final = (StockRepository, "locked")


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components, clock=ManualClock(datetime.now(UTC))) as running:
        yield running


def _post(
    api: InProcess, path: str, body: object = None
) -> Callable[[], Awaitable[httpx.Response]]:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return lambda: api.client.post(path, json={} if body is None else body, headers=headers)


def _placed(api: InProcess, product: str, *actions: str) -> str:
    """An order of two units, taken through these actions."""
    answer = api.post("/orders", {"items": [{"productId": product, "quantity": 2}]})
    order_id: str = answer.json()["id"]
    for action in actions:
        assert api.post(f"/orders/{order_id}/{action}").status_code == 200
    return order_id


def _overdue(api: InProcess, product: str) -> str:
    """An order whose time is over, and no other's is."""
    later(api, HOLD_SECONDS)
    api.run(api.resources.expiry.sweep)
    order_id = _placed(api, product)
    later(api, HOLD_SECONDS)
    return order_id


def _level(api: InProcess, product: str) -> tuple[int, int]:
    found = api.get(f"/products/{product}/inventory").json()
    return found["stock"], found["reserved"]


def _refused(answer: httpx.Response, present: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal_transition")
    assert answer.json()["from"] == present


@pytest.mark.parametrize(
    ("winner", "loser", "level"), [("cancel", "pay", (5, 0)), ("pay", "cancel", (3, 0))]
)
def test_of_cancel_and_pay_the_first_wins_and_the_other_is_told(
    api: InProcess, winner: str, loser: str, level: tuple[int, int]
) -> None:
    product = api.product(stock=5)["id"]
    path = f"/orders/{_placed(api, product, 'confirm')}"
    won, lost = race(api, ORDER, _post(api, f"{path}/{winner}"), _post(api, f"{path}/{loser}"))
    assert won.status_code == 200
    _refused(lost, won.json()["status"])
    assert _level(api, product) == level


def test_of_two_confirms_one_is_an_illegal_transition(api: InProcess) -> None:
    path = f"/orders/{_placed(api, api.product(stock=2)['id'])}/confirm"
    won, lost = race(api, ORDER, _post(api, path), _post(api, path))
    assert (won.status_code, won.json()["version"]) == (200, 2)
    _refused(lost, "confirmed")


def test_an_order_that_is_being_cancelled_does_not_expire(api: InProcess) -> None:
    product = api.product(stock=5)["id"]
    order = _overdue(api, product)
    sweep = api.resources.expiry.sweep
    cancelled, ended = race(api, ORDER, _post(api, f"/orders/{order}/cancel"), sweep, waits=False)
    assert (cancelled.json()["cancelReason"], ended, api.run(sweep)) == ("requested", 0, 0)
    assert _level(api, product) == (5, 0)


def test_an_order_that_is_expiring_cannot_be_cancelled(api: InProcess) -> None:
    product = api.product(stock=5)["id"]
    order = _overdue(api, product)
    sweep, place = api.resources.expiry.sweep, (ExpiryRepository, "claim_order")
    ended, refused = race(api, place, sweep, _post(api, f"/orders/{order}/cancel"))
    assert ended == 1
    _refused(refused, "cancelled")
    assert api.get(f"/orders/{order}").json()["cancelReason"] == "expired"
    assert _level(api, product) == (5, 0)


def test_of_two_refunds_the_second_sees_what_the_first_has_left(api: InProcess) -> None:
    product = api.product(stock=5, price=10)["id"]
    path = f"/orders/{_placed(api, product, 'confirm', 'pay')}/refunds"
    body = {"amountMinor": 1_500}
    won, lost = race(api, ORDER, _post(api, path, body), _post(api, path, body))
    assert (won.status_code, won.json()["refundedMinor"]) == (201, 1_500)
    assert (lost.status_code, lost.json()["code"]) == (422, "refund_too_large")
    one, other = race(api, ORDER, _post(api, path, {"amountMinor": 1}), _post(api, path))
    assert (one.json()["refundedMinor"], one.json()["status"]) == (1_501, "paid")
    assert (other.json()["refundedMinor"], other.json()["status"]) == (2_000, "refunded")
    assert _level(api, product) == (5, 0)


@pytest.mark.parametrize(("winner", "stock"), [("ship", 3), ("refunds", 5)])
def test_of_shipping_and_a_full_refund_the_goods_are_in_one_place(
    api: InProcess, winner: str, stock: int
) -> None:
    product = api.product(stock=5)["id"]
    path = f"/orders/{_placed(api, product, 'confirm', 'pay')}"
    ship, refund = _post(api, f"{path}/ship"), _post(api, f"{path}/refunds")
    if winner == "ship":
        shipped, refunded = race(api, ORDER, ship, refund)
        assert (shipped.status_code, refunded.status_code) == (200, 201)
    else:
        refunded, shipped = race(api, ORDER, refund, ship)
        assert refunded.status_code == 201
        _refused(shipped, "refunded")
    assert refunded.json()["status"] == "refunded"
    assert _level(api, product) == (stock, 0)


def test_orders_with_the_same_products_in_opposite_order_wait_for_each_other(
    api: InProcess,
) -> None:
    one, two = api.product(stock=9)["id"], api.product(stock=9)["id"]

    def order(*products: str) -> Callable[[], Awaitable[httpx.Response]]:
        items = [{"productId": pid, "quantity": 4} for pid in products]
        return _post(api, "/orders", {"items": items})

    # Were the locks taken line by line, each would hold what the other wants.
    answers = race(api, PRODUCTS, order(one, two), order(two, one))
    assert [answer.status_code for answer in answers] == [201, 201]
    assert (_level(api, one), _level(api, two)) == ((1, 8), (1, 8))


def test_two_lines_of_one_product_race_another_buyer_as_one_line(api: InProcess) -> None:
    product = api.product(stock=5)["id"]
    line: Any = {"productId": product, "quantity": 2}
    buy = {"items": [line, line]}
    won, lost = race(api, PRODUCTS, _post(api, "/orders", buy), _post(api, "/orders", buy))
    assert (won.status_code, won.json()["items"][0]["quantity"]) == (201, 4)
    assert lost.status_code == 409
    assert lost.json()["items"] == [{"productId": product, "requested": 4, "available": 1}]
    assert _level(api, product) == (1, 4)


def test_an_order_and_the_end_of_its_product_do_not_cross(api: InProcess) -> None:
    product = api.product(stock=5)["id"]
    buy = {"items": [{"productId": product, "quantity": 1}]}
    bought, deleted = race(
        api,
        PRODUCTS,
        _post(api, "/orders", buy),
        lambda: api.client.delete(f"/products/{product}"),
    )
    assert (bought.status_code, deleted.status_code) == (201, 204)
    late = api.post("/orders", buy)
    assert (late.status_code, late.json()["code"]) == (422, "product_not_available")
