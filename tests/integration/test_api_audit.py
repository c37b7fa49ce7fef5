"""The audit trail: one row a command that changed something, read by its seller, newest first."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        yield running


@pytest.fixture
def seller() -> str:
    return f"s-{uuid.uuid4().hex}"


def _rows(api: InProcess, query: str = "", **headers: str) -> list[dict[str, Any]]:
    answer = api.get(f"/audit?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def test_each_command_leaves_a_row_with_its_request(api: InProcess, seller: str) -> None:
    product = api.product(stock=5, sellerId=seller)["id"]
    placed = api.post("/orders", {"items": [{"productId": product, "quantity": 1}]})
    order = placed.json()["id"]
    cancelled = api.post(f"/orders/{order}/cancel", headers={"X-Request-Id": "please-cancel"})
    assert api.request("DELETE", f"/products/{product}").status_code == 204
    rows = _rows(api, f"sellerId={seller}")
    assert [(row["action"], row["entityType"], row["entityId"]) for row in rows] == [
        ("product.deleted", "product", product),
        ("order.cancelled", "order", order),
        ("order.created", "order", order),
        ("product.created", "product", product),
    ]
    assert set(rows[0]) == {
        *("id", "action", "entityType", "entityId", "sellerId", "requestId", "at")
    }
    assert rows[1]["requestId"] == "please-cancel"
    assert rows[1]["at"] == cancelled.json()["updatedAt"]
    assert rows[2]["requestId"] == placed.headers["x-request-id"]
    assert {row["sellerId"] for row in rows} == {seller}


def test_what_was_refused_or_changed_nothing_leaves_no_row(api: InProcess, seller: str) -> None:
    product = api.product(stock=1, sellerId=seller)["id"]
    short = {"items": [{"productId": product, "quantity": 2}]}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    assert api.post("/orders", short, headers=key).status_code == 409
    same = api.request("PATCH", f"/products/{product}", json={"name": "Test Product"})
    assert same.status_code == 200
    assert [row["action"] for row in _rows(api, f"sellerId={seller}")] == ["product.created"]


def test_a_seller_reads_its_own_trail_only(api: InProcess, seller: str) -> None:
    api.product(sellerId=seller)
    api.product(sellerId="another")
    own = _rows(api, **{"X-Seller-Id": seller})
    assert {row["sellerId"] for row in own} == {seller}
    assert _rows(api, "sellerId=another", **{"X-Seller-Id": seller}) == []
    assert {row["sellerId"] for row in _rows(api)} >= {seller, "another"}


def test_its_pages_go_there_and_back_while_rows_are_added(api: InProcess, seller: str) -> None:
    made = [api.product(sellerId=seller)["id"] for _ in range(7)][::-1]
    path, headers = "/audit?limit=3", {"X-Seller-Id": seller}
    first = api.get(path, headers=headers).json()
    api.product(sellerId=seller)
    second = api.get(f"{path}&cursor={first['nextCursor']}", headers=headers).json()
    third = api.get(f"{path}&cursor={second['nextCursor']}", headers=headers).json()
    pages = (first, second, third)
    assert [row["entityId"] for page in pages for row in page["data"]] == made
    assert (third["hasMore"], third["nextCursor"]) == (False, None)
    back = api.get(f"{path}&cursor={third['prevCursor']}", headers=headers).json()
    assert back["data"] == second["data"]
    foreign = api.get(f"/audit?limit=3&cursor={first['nextCursor']}")
    assert (foreign.status_code, foreign.json()["code"]) == (400, "invalid_cursor")
    assert api.get("/audit?limit=0").status_code == 422
