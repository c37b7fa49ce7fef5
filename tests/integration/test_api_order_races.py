"""Each race of orders forced once: two commands meet in the middle, one wins, nothing is torn."""

import asyncio
import uuid
from collections.abc import Coroutine, Iterator
from typing import Any

import httpx
import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents
from tests.support.races import AFTER, blocked, paused

from shopstream_api.orders.repository import OrderRepository
from shopstream_api.stock.repository import StockRepository


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        yield running


def _placed(api: InProcess, *lines: tuple[str, int]) -> str:
    items = [{"productId": pid, "quantity": count} for pid, count in lines]
    answer = api.post("/orders", {"items": items})
    assert answer.status_code == 201, answer.text
    order_id: str = answer.json()["id"]
    return order_id


def _meet(
    api: InProcess,
    owner: Any,
    name: str,
    first: Coroutine[Any, Any, httpx.Response],
    second: Coroutine[Any, Any, httpx.Response],
) -> tuple[httpx.Response, httpx.Response]:
    """``first`` stands still after ``owner.name`` until ``second`` waits for a lock of its."""

    async def scene() -> tuple[httpx.Response, httpx.Response]:
        with paused(owner, name, AFTER) as gate:
            one = asyncio.create_task(first)
            await gate.reached()
            other = asyncio.create_task(second)
            await blocked(api.database_url)
            gate.open()
            return await one, await other

    return api.run(scene)


def _stock(api: InProcess, product: str) -> tuple[int, int]:
    found = api.get(f"/products/{product}/inventory").json()
    return found["stock"], found["reserved"]


def _post(api: InProcess, path: str, body: object = None) -> Coroutine[Any, Any, httpx.Response]:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return api.client.post(path, json={} if body is None else body, headers=headers)


@pytest.mark.parametrize(
    ("winner", "loser", "stock"),
    [("cancel", "pay", (5, 0)), ("pay", "cancel", (3, 0))],
)
def test_of_cancel_and_pay_the_first_wins_and_the_other_is_told(
    api: InProcess, winner: str, loser: str, stock: tuple[int, int]
) -> None:
    product = api.product(stock=5)["id"]
    order = _placed(api, (product, 2))
    assert api.post(f"/orders/{order}/confirm").status_code == 200
    won, lost = _meet(
        api,
        OrderRepository,
        "locked",
        _post(api, f"/orders/{order}/{winner}"),
        _post(api, f"/orders/{order}/{loser}"),
    )
    assert won.status_code == 200
    assert (lost.status_code, lost.json()["code"]) == (409, "illegal_transition")
    assert lost.json()["from"] == won.json()["status"]
    assert _stock(api, product) == stock


def test_of_two_confirms_one_is_an_illegal_transition(api: InProcess) -> None:
    order = _placed(api, (api.product(stock=1)["id"], 1))
    path = f"/orders/{order}/confirm"
    won, lost = _meet(api, OrderRepository, "locked", _post(api, path), _post(api, path))
    assert (won.status_code, won.json()["version"]) == (200, 2)
    assert (lost.status_code, lost.json()["from"]) == (409, "confirmed")


def test_orders_with_the_same_products_in_opposite_order_wait_for_each_other(
    api: InProcess,
) -> None:
    one, two = api.product(stock=9)["id"], api.product(stock=9)["id"]

    def order(*products: str) -> Coroutine[Any, Any, httpx.Response]:
        return _post(
            api, "/orders", {"items": [{"productId": pid, "quantity": 4} for pid in products]}
        )

    # Were the locks taken line by line, each would hold what the other wants.
    answers = _meet(api, StockRepository, "locked", order(one, two), order(two, one))
    assert [answer.status_code for answer in answers] == [201, 201]
    assert (_stock(api, one), _stock(api, two)) == ((1, 8), (1, 8))


def test_two_lines_of_one_product_race_another_buyer_as_one_line(api: InProcess) -> None:
    product = api.product(stock=5)["id"]
    line = {"productId": product, "quantity": 2}
    won, lost = _meet(
        api,
        StockRepository,
        "locked",
        _post(api, "/orders", {"items": [line, line]}),
        _post(api, "/orders", {"items": [line, line]}),
    )
    assert (won.status_code, won.json()["items"][0]["quantity"]) == (201, 4)
    assert lost.status_code == 409
    assert lost.json()["items"] == [{"productId": product, "requested": 4, "available": 1}]
    assert _stock(api, product) == (1, 4)
