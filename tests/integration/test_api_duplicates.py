"""One key, fifty requests at once: one effect, and one answer for all."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.support.api import ApiProcess
from tests.support.components import LocalComponents
from tests.support.system import wait_until

DUPLICATES = 50


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[ApiProcess]:
    with ApiProcess.beside(session_components, SHOPSTREAM_RELAY="off") as process:
        yield process


def _at_once(api: ApiProcess, path: str, body: object, key: str) -> list[httpx.Response]:
    """What each duplicate is answered in the end; one that meets another in flight asks again."""

    def send(_number: int) -> httpx.Response:
        answers: list[httpx.Response] = []

        def answered() -> bool:
            answers.append(client.post(path, json=body, headers={"Idempotency-Key": key}))
            busy = answers[-1].status_code == 409
            if busy and answers[-1].json()["code"] == "idempotency_key_in_flight":
                assert answers[-1].headers["retry-after"] == "1"
                return False
            return True

        wait_until(answered, "the first of them is done")
        return answers[-1]

    limits = httpx.Limits(max_connections=DUPLICATES)
    with (
        httpx.Client(base_url=api.client.base_url, timeout=60, limits=limits) as client,
        ThreadPoolExecutor(DUPLICATES) as threads,
    ):
        return list(threads.map(send, range(DUPLICATES)))


def _one_answer(answers: list[httpx.Response], status: int) -> dict[str, Any]:
    """The body, the same bytes for all; all but one say that they are a replay."""
    assert {answer.status_code for answer in answers} == {status}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers.get("location") for answer in answers}) == 1
    replayed = [answer.headers.get("idempotent-replayed") for answer in answers]
    assert sorted(replayed, key=str) == [None] + ["true"] * (DUPLICATES - 1)
    body: dict[str, Any] = answers[0].json()
    return body


def test_fifty_duplicates_of_an_order_place_one(api: ApiProcess) -> None:
    product = api.product(stock=100)
    body = {"items": [{"productId": product["id"], "quantity": 3}]}

    order = _one_answer(_at_once(api, "/orders", body, "order once"), 201)

    assert api.query("SELECT count(*) FROM orders") == [(1,)]
    assert api.client.get(f"/products/{product['id']}").json()["stock"] == 97
    rows = api.query("SELECT count(*) FROM event_audit WHERE subject = %s", order["id"])
    assert rows == [(1,)]


def test_fifty_duplicates_of_a_product_create_one(api: ApiProcess) -> None:
    body = {"name": "once", "price": 1, "sellerId": "duplicates"}

    product = _one_answer(_at_once(api, "/products", body, "product once"), 201)

    assert api.query("SELECT id::text FROM products WHERE seller_id = 'duplicates'") == [
        (product["id"],)
    ]


def test_fifty_duplicates_of_a_refusal_are_refused_alike(api: ApiProcess) -> None:
    product = api.product(stock=1)
    path = f"/products/{product['id']}/stock-adjustments"
    body = {"delta": -2, "reason": "damaged"}

    refusal = _one_answer(_at_once(api, path, body, "refused once"), 409)

    assert refusal["code"] == "insufficient_stock"
    assert refusal["items"] == [{"productId": product["id"], "requested": 2, "available": 1}]
