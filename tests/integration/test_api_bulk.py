"""Many products in one request: each row answered for itself, or all or nothing."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents
from tests.support.races import Breaths, replaced

from shopstream_api.catalog import service as catalog
from shopstream_api.catalog.many import ROWS_A_BREATH

SELLER = "seller1"


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as app:
        yield app


def _row(**members: Any) -> dict[str, Any]:
    return {"name": "Test Product", "price": 99.99, "sellerId": SELLER, **members}


def _bulk(
    api: InProcess, items: Any, *, key: str | None = None, seller: str | None = None, **more: Any
) -> httpx.Response:
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    if seller is not None:
        headers["X-Seller-Id"] = seller
    return api.post("/products/bulk", {"items": items, **more}, headers=headers)


def _results(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert [result["index"] for result in results] == list(range(len(results)))
    return results


def _count(api: InProcess) -> Any:
    return api.query("SELECT count(*) FROM products")[0][0]


def test_each_row_is_created_as_it_would_be_alone(api: InProcess) -> None:
    alone = api.product(name="alone", tags=["a", 'b"c\\', "", "{d,e}"], stock=3, description="x\ny")
    sent = {name: alone[name] for name in ("name", "tags", "stock", "description", "price")}
    (result,) = _results(_bulk(api, [{**sent, "sellerId": SELLER}]))
    assert result["status"] == 201
    product = result["product"]
    assert api.get(f"/products/{product['id']}").json() == product
    own = ("id", "createdAt", "updatedAt")
    assert {k: v for k, v in product.items() if k not in own} == {
        k: v for k, v in alone.items() if k not in own
    }


def test_every_created_row_leaves_one_event_and_one_audit_entry(api: InProcess) -> None:
    rows = _results(_bulk(api, [_row(name=f"p{n}") for n in range(500)]))
    ids = [row["product"]["id"] for row in rows]
    events = api.query(
        "SELECT aggregateid, txrows, payload FROM outbox WHERE aggregateid = ANY(%s) ORDER BY seq",
        ids,
    )
    assert [event[0] for event in events] == ids
    assert {event[1] for event in events} == {500}
    assert [json.loads(event[2])["data"] for event in events] == [row["product"] for row in rows]
    audits = api.query(
        "SELECT count(*) FROM audit_log WHERE entity_id = ANY(%s::uuid[]) AND action = %s",
        ids,
        "product.created",
    )
    assert audits == [(500,)]


def test_a_bad_row_has_its_problem_and_the_others_are_created(api: InProcess) -> None:
    taken = uuid.uuid4().hex
    api.product(sku=taken)
    answer = _bulk(
        api,
        [
            _row(sku="first"),
            _row(stock=-1, colour="red"),
            _row(sellerId="other"),
            _row(sku=taken),
            _row(sku="first"),
            "no product",
            _row(sku="last"),
        ],
        seller=SELLER,
    )
    results = _results(answer)
    assert [result["status"] for result in results] == [201, 422, 403, 409, 409, 422, 201]
    problems = {row["index"]: row["problem"] for row in results if row["status"] != 201}
    assert {fault["pointer"] for fault in problems[1]["errors"]} == {
        "/items/1/stock",
        "/items/1/colour",
    }
    assert problems[2]["code"] == "forbidden"
    assert problems[3]["code"] == problems[4]["code"] == "duplicate_sku"
    assert problems[5]["errors"][0]["pointer"] == "/items/5"
    assert problems[3]["requestId"] == answer.headers["x-request-id"]


def test_the_first_good_row_of_a_sku_is_the_one_created(api: InProcess) -> None:
    sku = uuid.uuid4().hex
    results = _results(_bulk(api, [_row(sku=sku, price=-1), _row(sku=sku), _row(sku=sku)]))
    assert [result["status"] for result in results] == [422, 201, 409]


@pytest.mark.parametrize(
    ("rows", "code", "pointer"),
    [
        ([_row(), _row(price="1")], "validation_failed", "/items/1/price"),
        ([_row(), _row(sellerId="other")], "validation_failed", "/items/1/sellerId"),
        ([_row(sku="s"), _row(sku="s")], "rows_refused", "/items/1/sku"),
    ],
)
def test_all_or_nothing_writes_nothing_when_one_row_is_bad(
    api: InProcess, rows: list[Any], code: str, pointer: str
) -> None:
    before = _count(api), api.query("SELECT count(*) FROM outbox")
    answer = _bulk(api, rows, atomic=True, seller=SELLER)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    assert (_count(api), api.query("SELECT count(*) FROM outbox")) == before


def test_all_or_nothing_creates_all_when_all_are_good(api: InProcess) -> None:
    results = _results(_bulk(api, [_row(), _row()], atomic=True))
    assert [result["status"] for result in results] == [201, 201]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"items": [_row()] * 501}, "/items"),
        ({"items": []}, "/items"),
        ({"items": _row()}, "/items"),
        ({}, "/items"),
        ({"items": [_row()], "atomic": "yes"}, "/atomic"),
        ({"items": [_row()], "dry": True}, "/dry"),
        ([_row()], ""),
    ],
)
def test_a_request_of_another_shape_is_refused_as_a_whole(
    api: InProcess, body: Any, pointer: str
) -> None:
    before = _count(api)
    answer = api.post("/products/bulk", body, headers={"Idempotency-Key": "shape"})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert _count(api) == before


def test_a_key_is_required_and_repeats_the_answer_byte_for_byte(api: InProcess) -> None:
    rows = [_row(name="keyed"), _row(price=-1)]
    answer = api.post("/products/bulk", {"items": rows})
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_required")
    first, before = _bulk(api, rows, key="again"), _count(api)
    again = _bulk(api, rows, key="again")
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert _bulk(api, rows[:1], key="again").json()["code"] == "idempotency_key_reused"
    assert _count(api) == before


def test_others_have_their_turn_while_rows_are_made_products(api: InProcess) -> None:
    breaths, draft = Breaths(), catalog.draft

    def drafted(*arguments: Any) -> Any:
        breaths.did()
        return draft(*arguments)

    async def scene() -> httpx.Response:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        sent = api.client.post("/products/bulk", json={"items": [_row()] * 100}, headers=headers)
        answer = asyncio.create_task(sent)
        await breaths.watch(answer.done)
        return await answer

    with replaced(catalog, "draft", drafted):
        assert len(_results(api.run(scene))) == 100
    assert breaths.most == ROWS_A_BREATH
