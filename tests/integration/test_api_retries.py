"""A deadlock or a serialization failure is the server's own business: the command runs again."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

from shopstream_api.db.transaction import ATTEMPTS_MAX, Transaction
from shopstream_api.db.wire import Statement
from shopstream_api.orders.models import OrderRow
from shopstream_api.orders.repository import OrderRepository
from shopstream_api.principal import Principal, RequestContext
from shopstream_api.stock.schemas import Adjustment
from shopstream_api.stock.service import StockService

SECONDS_MAX = 20.0
HOLD = timedelta(minutes=15)


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        yield running


@pytest.mark.parametrize("state", ["40001", "40P01"])
@pytest.mark.parametrize("failures", [1, ATTEMPTS_MAX - 1, ATTEMPTS_MAX])
def test_a_command_is_tried_again_and_leaves_one_effect_or_none(
    api: InProcess, monkeypatch: pytest.MonkeyPatch, state: str, failures: int
) -> None:
    product = api.product(stock=9)["id"]
    original, attempts = OrderRepository.add, []
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = '{state}'; END $$"
    fault = Statement(f"fault_{state}", raising)

    def add(self: OrderRepository, row: OrderRow) -> None:
        original(self, row)
        attempts.append(row.id)
        if len(attempts) <= failures:
            self._statements.add(fault, {})

    monkeypatch.setattr(OrderRepository, "add", add)
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"items": [{"productId": product, "quantity": 2}]}
    answer = api.post("/orders", body, headers=headers)

    placed = failures < ATTEMPTS_MAX
    assert len(attempts) == min(failures + 1, ATTEMPTS_MAX)
    if not placed:
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    counted = "SELECT count(*), count(DISTINCT order_id) FROM order_items WHERE product_id = %s"
    assert api.query(counted, product) == [(placed, placed)]
    reserved = "SELECT sequence FROM event_audit WHERE subject = %s AND topic = 'shop.inventory'"
    assert api.query(reserved, product) == [(1,)] * placed
    # The key was not used up by what came to nothing.
    again = api.post("/orders", body, headers=headers)
    assert (again.status_code, "idempotent-replayed" in again.headers) == (201, placed)


def test_two_commands_that_lock_each_other_out_are_both_done(api: InProcess) -> None:
    one, two = (uuid.UUID(api.product(stock=9)["id"]) for _ in range(2))
    service = StockService(5, HOLD)
    first = Adjustment(-1, "first")

    async def scene() -> int:
        runs, both = 0, asyncio.Barrier(2)

        async def take(products: tuple[uuid.UUID, uuid.UUID]) -> None:
            async def work(tx: Transaction) -> None:
                nonlocal runs
                runs += 1
                alone = runs > 2
                await service.adjust(tx, Principal(), products[0], first)
                if not alone:
                    await both.wait()
                await service.adjust(tx, Principal(), products[1], first)

            await api.resources.database.run(RequestContext("r"), work)

        async with asyncio.timeout(SECONDS_MAX):
            await asyncio.gather(take((one, two)), take((two, one)))
        return runs

    assert api.run(scene) == 3
    for product in (one, two):
        level = api.get(f"/products/{product}/inventory").json()
        assert (level["stock"], level["inventoryVersion"]) == (7, 2)
