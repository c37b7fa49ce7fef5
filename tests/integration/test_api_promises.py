"""What the description promises of every route alike: keys, sellers, members set by the server."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents
from tests.support.prepared import Prepared, Preparer
from tests.support.system import wait_until

from shopstream_api.web.openapi import operations_in

DOCUMENT: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "docs" / "openapi.json").read_bytes()
)
#: What another seller is told, where it is not that there is no such thing.
OTHERS: Final = {
    "createProduct": (403, "forbidden"),
    # Rows are refused one by one.
    "createProducts": (200, None),
    "createImport": (202, None),
    # Anyone may buy.
    "placeOrder": (201, None),
}


def _operations(*parameters: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """(method, operation) by name, of those that take one of these header components."""
    return {
        operation["operationId"]: (method, operation)
        for _, method, operation in operations_in(DOCUMENT)
        if {parameter.get("$ref", "").rpartition("/")[2] for parameter in operation["parameters"]}
        & set(parameters)
    }


KEYED: Final = _operations("IdempotencyKey", "IdempotencyKeyRequired")
NEEDING: Final = _operations("IdempotencyKeyRequired")
#: Lists of one seller's things are empty for another; see the tests of each.
OWNED: Final = [
    name
    for name, (method, _) in _operations("SellerId").items()
    if method != "get" or not name.startswith("list") or name == "listImportErrors"
]


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        yield running


def test_the_routes_that_take_a_key_are_those_of_the_contract() -> None:
    assert set(NEEDING) == {"adjustStock", "refundOrder", "createProducts", "createImport"}
    actions = {f"{verb}Order" for verb in ("confirm", "pay", "ship", "deliver", "cancel", "place")}
    assert set(KEYED) - set(NEEDING) == actions | {"createProduct", "patchProduct", "reserveStock"}


@pytest.mark.parametrize("name", KEYED)
def test_a_key_has_one_effect_and_one_answer(api: InProcess, name: str) -> None:
    request = Preparer(api, "keyed")(name)
    key = {"Idempotency-Key": uuid.uuid4().hex}

    first = request.send(api, **key)
    effects = _rows(api)
    again = request.send(api, **key)

    assert first.is_success, first.text
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    for header in ("location", "etag", "content-type"):
        assert again.headers.get(header) == first.headers.get(header)
    assert _rows(api) == effects


@pytest.mark.parametrize("name", KEYED)
def test_a_key_is_bound_to_its_body(api: InProcess, name: str) -> None:
    request = Preparer(api, "keyed")(name)
    key = {"Idempotency-Key": uuid.uuid4().hex}
    request.send(api, **key)

    if request.body is None:
        # An action has no other body than none; the same key on another order is another key.
        other = Preparer(api, "keyed")(name)
        assert other.send(api, **key).is_success
        return
    body = request.body + "\n{}" if isinstance(request.body, str) else _changed(request.body)
    other = Prepared(request.method, request.path, body)
    answer = other.send(api, **key)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


def _changed(body: dict[str, Any]) -> dict[str, Any]:
    """Another valid body of the same operation."""
    changed: dict[str, Any] = json.loads(json.dumps(body))
    if "items" in changed:
        changed["items"] = changed["items"] * 2
    else:
        name = next(name for name in ("name", "delta", "quantity", "amountMinor") if name in body)
        changed[name] = 2 if isinstance(body[name], int) else "another"
    return changed


@pytest.mark.parametrize("name", KEYED)
@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_cannot_be_one_is_refused(api: InProcess, name: str, key: str) -> None:
    answer = Preparer(api, "keyed")(name).send(api, **{"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")


@pytest.mark.parametrize("name", NEEDING)
def test_a_required_key_is_required(api: InProcess, name: str) -> None:
    answer = Preparer(api, "keyed")(name).send(api)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_required")


@pytest.mark.parametrize("name", OWNED)
def test_a_thing_is_there_for_its_own_seller_only(api: InProcess, name: str) -> None:
    request = Preparer(api, "owner")(name)
    before = _rows(api)

    key = uuid.uuid4().hex
    answer = request.send(api, **{"X-Seller-Id": "stranger", "Idempotency-Key": key})

    status, code = OTHERS.get(name, (404, "not_found"))
    assert answer.status_code == status, answer.text
    if code is not None:
        assert answer.json()["code"] == code
        assert _rows(api) == before
    if name == "createProducts":
        assert answer.json()["results"][0]["problem"]["code"] == "forbidden"
        assert _rows(api) == before
    if name not in OTHERS:
        # The refusal of a stranger changed nothing: for its owner the thing is as it was.
        own = request.send(api, **{"X-Seller-Id": "owner", "Idempotency-Key": uuid.uuid4().hex})
        assert own.is_success, own.text


def _rows(api: InProcess) -> list[tuple[Any, ...]]:
    """How much has happened, once nothing goes on in the background."""
    wait_until(
        lambda: api.query("SELECT count(*) FROM imports WHERE status = 'running'") == [(0,)],
        "all imports are done",
    )
    return api.query("SELECT (SELECT count(*) FROM event_audit), (SELECT count(*) FROM audit_log)")


def _foreign_members() -> Iterator[tuple[str, set[str]]]:
    """Members that an operation's answer has and its body has not: set by the server alone."""
    schemas = DOCUMENT["components"]["schemas"]
    for _, _, operation in operations_in(DOCUMENT):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None and operation["operationId"] != "createProducts":
            taken = schemas[content["schema"]["$ref"].rpartition("/")[2]]["properties"]
            answered = next(
                answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                for status, answer in operation["responses"].items()
                if status < "3"
            )
            shown = schemas[answered]["properties"].keys()
            yield operation["operationId"], {*(shown - taken.keys()), "deletedAt", "reserved"}


@pytest.mark.parametrize(("name", "members"), list(_foreign_members()))
def test_what_the_server_sets_cannot_be_sent(api: InProcess, name: str, members: set[str]) -> None:
    request = Preparer(api, "owner")(name)
    before = _rows(api)
    for member in members:
        body = {**(request.body or {}), member: 1}
        answer = Prepared(request.method, request.path, body).send(
            api, **{"Idempotency-Key": uuid.uuid4().hex}
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
        assert f"/{member}" in {fault["pointer"] for fault in answer.json()["errors"]}
    assert _rows(api) == before
