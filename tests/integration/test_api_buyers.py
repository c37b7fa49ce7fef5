"""Many buyers at once, over HTTP, of less than they all want: nobody gets what is not there."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest
from tests.support.api import ApiProcess
from tests.support.app import in_process
from tests.support.components import LocalComponents
from tests.support.races import blocked

from shopstream_api.db.transaction import Transaction, commands_max
from shopstream_api.errors import Unavailable
from shopstream_api.principal import RequestContext

#: The promise is 5 s for all of 200 buyers; tests allow three times that.
SECONDS_MAX = 15.0
POOL_SIZE = 4


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[ApiProcess]:
    # Its end checks that stock is the initial stock and the ledger, as all invariants.
    # The deadline is three times as long too: a slow machine is not an answer of 503.
    with ApiProcess.beside(
        session_components, SHOPSTREAM_RELAY="off", SHOPSTREAM_REQUEST_DEADLINE_SECONDS="30"
    ) as process:
        yield process


def _buy(api: ApiProcess, product: str, buyers: int) -> tuple[Counter[int], float]:
    """All at once, each on a connection of its own: answers by status, and the seconds it took."""

    items = [{"productId": product, "quantity": 1}]
    body = json.dumps({"items": items}).encode()
    head = (
        "POST /orders HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    # Bare connections: a client library's own work for 300 of them outweighs the API's.
    async def buy() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(head.encode() + body)
        _version, status, _reason = (await reader.readline()).split(b" ", 2)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        return int(status)

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(buy() for _ in range(buyers)))

    started = time.monotonic()
    statuses = asyncio.run(all_of_them())
    return Counter(statuses), time.monotonic() - started


@pytest.mark.parametrize(("buyers", "stock"), [(200, 1), (300, 100)])
def test_as_many_buy_as_there_are_units_and_the_others_are_told(
    api: ApiProcess, buyers: int, stock: int
) -> None:
    product = api.product(stock=stock)["id"]
    statuses, seconds = _buy(api, product, buyers)
    assert statuses == {201: stock, 409: buyers - stock}
    assert seconds < SECONDS_MAX
    level = api.client.get(f"/products/{product}/inventory").json()
    assert (level["stock"], level["reserved"], level["onHand"]) == (0, stock, stock)
    assert api.query("SELECT count(*) FROM order_items WHERE product_id = %s", product) == [
        (stock,)
    ]


def test_who_only_reads_is_served_beside_all_that_wait_for_one_product(
    session_components: LocalComponents,
) -> None:
    with in_process(
        session_components,
        SHOPSTREAM_POOL_SIZE=str(POOL_SIZE),
        SHOPSTREAM_POOL_TIMEOUT_SECONDS="1",
        SHOPSTREAM_REQUEST_DEADLINE_SECONDS="30",
    ) as app:
        product = app.product(stock=100)["id"]
        body = {"items": [{"productId": product, "quantity": 1}]}

        async def scene() -> tuple[list[int], list[int]]:
            async with await psycopg.AsyncConnection.connect(app.database_url) as holder:
                await holder.execute("SELECT 1 FROM products WHERE id = %s FOR UPDATE", [product])
                buyers = [
                    asyncio.ensure_future(app.client.post("/orders", json=body))
                    for _ in range(5 * POOL_SIZE)
                ]
                await blocked(app.database_url, commands_max(POOL_SIZE))
                paths = ("/orders", "/products", "/health/ready", f"/products/{product}/inventory")
                read = [(await app.client.get(path)).status_code for path in paths]
                await holder.rollback()
                return read, [answer.status_code for answer in await asyncio.gather(*buyers)]

        assert app.run(scene) == ([200] * 4, [201] * 5 * POOL_SIZE)


def test_a_command_waits_for_its_turn_no_longer_than_a_request_may_take(
    session_components: LocalComponents,
) -> None:
    with in_process(
        session_components,
        SHOPSTREAM_POOL_SIZE=str(POOL_SIZE),
        SHOPSTREAM_REQUEST_DEADLINE_SECONDS="0.3",
    ) as app:
        database, context = app.resources.database, RequestContext("r")

        async def scene() -> None:
            begun, over = asyncio.Semaphore(0), asyncio.Event()

            async def work(_tx: Transaction) -> None:
                begun.release()
                await over.wait()

            commands = [
                asyncio.ensure_future(database.run(context, work))
                for _ in range(commands_max(POOL_SIZE))
            ]
            try:
                for _ in commands:
                    await begun.acquire()
                with pytest.raises(Unavailable, match="waiting"):
                    await database.run(context, work)
            finally:
                over.set()
                await asyncio.gather(*commands)
            # Nobody's turn is lost by it.
            await asyncio.gather(*(database.run(context, work) for _ in range(2 * POOL_SIZE)))

        app.run(scene)


@pytest.mark.parametrize(("pool", "commands"), [(1, 1), (2, 1), (4, 3), (8, 6), (20, 15)])
def test_a_quarter_of_the_pool_is_kept_for_readers(pool: int, commands: int) -> None:
    assert commands_max(pool) == commands
