"""Many buyers at once, over HTTP, of less than they all want: nobody gets what is not there."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.support.api import ApiProcess
from tests.support.components import LocalComponents

#: The promise is 5 s for all of 200 buyers; tests allow three times that.
SECONDS_MAX = 15.0


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[ApiProcess]:
    # Its end checks that stock is the initial stock and the ledger, as all invariants.
    # What it waits for is given three times as long too: a slow machine is not an answer of 503.
    with ApiProcess.beside(
        session_components,
        SHOPSTREAM_RELAY="off",
        SHOPSTREAM_POOL_TIMEOUT_SECONDS="15",
        SHOPSTREAM_REQUEST_DEADLINE_SECONDS="30",
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
