"""Races for stock, each forced once: one stands still with its lock while the other comes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from tests.support.app import InProcess, in_process, later
from tests.support.components import LocalComponents
from tests.support.races import race

from shopstream_api.expiry.repository import ExpiryRepository
from shopstream_api.orders.repository import OrderRepository
from shopstream_api.stock.repository import StockRepository
from shopstream_shared.clock import ManualClock

HOLD_SECONDS = 900


@pytest.fixture(scope="module")
def app(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components, clock=ManualClock(datetime.now(UTC))) as running:
        yield running


def _post(app: InProcess, path: str, body: Any = None) -> Callable[[], Awaitable[httpx.Response]]:
    return lambda: app.client.post(path, json={} if body is None else body)


def _reserve(app: InProcess, product: str) -> Callable[[], Awaitable[httpx.Response]]:
    return _post(app, f"/products/{product}/reservations", {"quantity": 1})


def _order(app: InProcess, product: str) -> Callable[[], Awaitable[httpx.Response]]:
    return _post(app, "/orders", {"items": [{"productId": product, "quantity": 1}]})


def _level(app: InProcess, product: str) -> tuple[int, int]:
    found = app.get(f"/products/{product}/inventory").json()
    return found["stock"], found["reserved"]


def _released(app: InProcess, product: str) -> list[str]:
    """Reasons of the releases of a product, oldest first."""
    rows = app.query(
        "SELECT reason FROM stock_movements WHERE product_id = %s AND cause = 'inventory.released'"
        " ORDER BY inventory_version",
        product,
    )
    return [row[0] for row in rows]


@pytest.mark.parametrize("first", [_reserve, _order])
@pytest.mark.parametrize("second", [_reserve, _order])
def test_the_last_unit_goes_to_who_locks_it_first(app: InProcess, first: Any, second: Any) -> None:
    product = app.product(stock=1)["id"]
    place = (StockRepository, "locked")
    won, lost = race(app, place, first(app, product), second(app, product))
    assert (won.status_code, lost.status_code) == (201, 409)
    assert lost.json()["items"] == [{"productId": product, "requested": 1, "available": 0}]
    assert _level(app, product) == (0, 1)


def test_stock_is_set_by_one_of_two_who_expect_the_same(app: InProcess) -> None:
    product = app.product(stock=7)["id"]

    def put(quantity: int) -> Callable[[], Awaitable[httpx.Response]]:
        body = {"quantity": quantity, "expectedQuantity": 7}
        return lambda: app.client.put(f"/products/{product}/stock", json=body)

    won, lost = race(app, (StockRepository, "locked"), put(9), put(5))
    assert (won.status_code, lost.status_code) == (200, 412)
    assert _level(app, product) == (9, 0)


def _alone(app: InProcess) -> str:
    """A product with three units, when nothing of the other tests is held any more."""
    later(app, HOLD_SECONDS)
    app.run(app.resources.expiry.sweep)
    product: str = app.product(stock=3)["id"]
    return product


def _held(app: InProcess, product: str) -> Callable[[], Awaitable[httpx.Response]]:
    """A reservation is made; returns how to delete it."""
    held = app.post(f"/products/{product}/reservations", {"quantity": 1}).json()["id"]
    return lambda: app.client.delete(f"/reservations/{held}")


def test_of_two_deletes_one_gives_the_units_back(app: InProcess) -> None:
    product = _alone(app)
    delete = _held(app, product)
    won, lost = race(app, (StockRepository, "reserved"), delete, delete)
    assert (won.status_code, lost.status_code) == (204, 404)
    assert (_level(app, product), _released(app, product)) == ((3, 0), ["requested"])


def test_a_reservation_that_is_being_deleted_does_not_expire(app: InProcess) -> None:
    product = _alone(app)
    delete = _held(app, product)
    later(app, HOLD_SECONDS)
    sweep = app.resources.expiry.sweep
    place = (StockRepository, "reserved")
    deleted, ended = race(app, place, delete, sweep, waits=False)
    assert (deleted.status_code, ended, app.run(sweep)) == (204, 0, 0)
    assert (_level(app, product), _released(app, product)) == ((3, 0), ["requested"])


def test_a_reservation_that_is_expiring_cannot_be_deleted(app: InProcess) -> None:
    product = _alone(app)
    delete = _held(app, product)
    later(app, HOLD_SECONDS)
    place = (StockRepository, "overdue")
    ended, deleted = race(app, place, app.resources.expiry.sweep, delete)
    assert (ended, deleted.status_code) == (1, 404)
    assert (_level(app, product), _released(app, product)) == ((3, 0), ["expired"])


def _confirmed(app: InProcess, product: str) -> str:
    order: str = app.run(_order(app, product)).json()["id"]
    assert app.post(f"/orders/{order}/confirm").status_code == 200
    return order


def test_an_order_that_is_being_paid_does_not_expire(app: InProcess) -> None:
    product = _alone(app)
    order = _confirmed(app, product)
    later(app, HOLD_SECONDS)
    sweep = app.resources.expiry.sweep
    pay = _post(app, f"/orders/{order}/pay")
    paid, ended = race(app, (OrderRepository, "locked"), pay, sweep, waits=False)
    assert (paid.status_code, ended, app.run(sweep)) == (200, 0, 0)
    assert (_level(app, product), _released(app, product)) == ((2, 0), [])


def test_an_order_that_is_expiring_cannot_be_paid(app: InProcess) -> None:
    product = _alone(app)
    order = _confirmed(app, product)
    later(app, HOLD_SECONDS)
    pay = _post(app, f"/orders/{order}/pay")
    place = (ExpiryRepository, "claim_order")
    ended, paid = race(app, place, app.resources.expiry.sweep, pay)
    assert (ended, paid.status_code) == (1, 409)
    assert (paid.json()["code"], paid.json()["from"]) == ("illegal_transition", "cancelled")
    assert (_level(app, product), _released(app, product)) == ((3, 0), ["expired"])


def test_expiry_and_new_orders_of_its_products_do_not_lock_each_other_out(app: InProcess) -> None:
    _alone(app)
    one, two = app.product(stock=50)["id"], app.product(stock=50)["id"]

    async def scene() -> set[int]:
        async def buy(number: int) -> int:
            ids = (one, two) if number % 2 else (two, one)
            items = [{"productId": pid, "quantity": 1} for pid in ids]
            return (await app.client.post("/orders", json={"items": items})).status_code

        codes = set(await asyncio.gather(*map(buy, range(16))))
        later(app, HOLD_SECONDS)
        ended, *bought = await asyncio.gather(app.resources.expiry.sweep(), *map(buy, range(16)))
        assert ended == 16
        return codes.union(bought)

    assert app.run(scene) == {201}
    assert (_level(app, one), _level(app, two)) == ((34, 16), (34, 16))
