"""A key in flight, a key whose command failed, and what makes two requests the same."""

import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents
from tests.support.races import AFTER, BEFORE, When, hooked, race

from shopstream_api.db.pipeline import Pipeline
from shopstream_api.errors import Unavailable
from shopstream_api.idempotency.repository import KeyRepository
from shopstream_api.stock.repository import StockRepository

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        yield running


def _adjustment(api: InProcess) -> tuple[str, dict[str, Any]]:
    path = f"/products/{api.product(stock=9)['id']}/stock-adjustments"
    return path, {"delta": -2, "reason": "damaged"}


def _order(api: InProcess) -> tuple[str, dict[str, Any]]:
    return "/orders", {"items": [{"productId": api.product(stock=9)["id"], "quantity": 2}]}


def _cancel(api: InProcess) -> tuple[str, dict[str, Any]]:
    return f"/orders/{api.post(*_order(api)).json()['id']}/cancel", {}


def _refusal(api: InProcess) -> tuple[str, dict[str, Any]]:
    return f"/products/{api.product(stock=1)['id']}/reservations", {"quantity": 2}


def _key() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


def _effects(api: InProcess) -> list[tuple[Any, ...]]:
    return api.query("SELECT (SELECT count(*) FROM event_audit), (SELECT count(*) FROM audit_log)")


@pytest.mark.parametrize("request_of", [_adjustment, _order, _cancel, _refusal])
def test_who_meets_its_own_key_in_flight_is_told_to_come_again(
    api: InProcess, request_of: Callable[[InProcess], tuple[str, dict[str, Any]]]
) -> None:
    (path, body), headers = request_of(api), _key()

    def send() -> Awaitable[httpx.Response]:
        return api.client.post(path, json=body, headers=headers)

    place = (StockRepository, "locked")
    first, met = race(api, place, send, send, waits=False)
    effects = _effects(api)
    again = api.run(send)

    assert (met.status_code, met.json()["code"]) == (409, "idempotency_key_in_flight")
    assert met.headers["retry-after"] == "1"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert _effects(api) == effects


@pytest.mark.parametrize(
    ("place", "when"),
    [
        ((KeyRepository, "claim"), AFTER),
        ((StockRepository, "locked"), AFTER),
        ((Pipeline, "commit"), BEFORE),
    ],
)
def test_a_command_that_could_not_be_done_leaves_its_key_free(
    api: InProcess, place: tuple[type, str], when: When
) -> None:
    (path, body), headers = _adjustment(api), _key()
    effects = _effects(api)

    async def cut() -> None:
        msg = "The database is away or too busy."
        raise Unavailable(msg)

    with hooked(*place, when, cut):
        failed = api.post(path, body, headers=headers)
    assert (failed.status_code, failed.json()["code"]) == (503, "unavailable")
    assert _effects(api) == effects

    done = api.post(path, body, headers=headers)
    assert (done.status_code, done.json()["stock"]) == (201, 7)
    assert "idempotent-replayed" not in done.headers


@pytest.mark.parametrize(
    "spelling",
    [
        b'{"delta":-2,"reason":"damaged"}',
        b'\n{ "reason" : "damaged",\t"delta" : -2 }\n',
        b'{"reason":"d\\u0061maged","delta":-2.0}',
    ],
)
def test_how_a_body_is_spelt_does_not_matter(api: InProcess, spelling: bytes) -> None:
    (path, body), headers = _adjustment(api), _key()
    first = api.post(path, body, headers=headers)
    again = api.post(path, content=spelling, headers=headers | JSON)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"


def test_the_alias_of_a_route_is_the_same_path_to_a_key(api: InProcess) -> None:
    (path, body), headers = _order(api), _key()
    first = api.post(path, body, headers=headers)
    again = api.post(f"/api/v1{path}", body, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"]


def test_a_key_belongs_to_one_caller_and_one_path(api: InProcess) -> None:
    (path, body), headers = _adjustment(api), _key()
    other_path, _ = _adjustment(api)
    answers = [
        api.post(path, body, headers=headers),
        api.post(path, body, headers=headers | {"X-Seller-Id": "seller1"}),
        api.post(other_path, body, headers=headers),
    ]
    assert [answer.json()["stock"] for answer in answers] == [7, 5, 7]
    assert all("idempotent-replayed" not in answer.headers for answer in answers)


def test_a_refusal_stays_the_answer_of_its_key_though_it_could_be_done_now(api: InProcess) -> None:
    draft = api.product(stock=9, status="draft")["id"]
    body, headers = {"items": [{"productId": draft, "quantity": 1}]}, _key()
    refused = api.post("/orders", body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "product_not_available")
    assert api.request("PATCH", f"/products/{draft}", json={"status": "active"}).is_success
    again = api.post("/orders", body, headers=headers)
    assert (again.status_code, again.content) == (422, refused.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert api.post("/orders", body, headers=_key()).status_code == 201
