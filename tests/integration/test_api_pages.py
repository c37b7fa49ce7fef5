"""What a person reads: a page for each type of problem, and the description to try out."""

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

from shopstream_api.web.problems import PROBLEMS, Kind


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        yield running


@pytest.mark.parametrize("kind", PROBLEMS.values(), ids=lambda kind: kind.code)
def test_every_type_of_problem_has_a_page_that_helps(api: InProcess, kind: Kind) -> None:
    for prefix in ("", "/api/v1"):
        page = api.get(f"{prefix}/problems/{kind.code}")

        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        text = unescape(page.text)
        assert kind.title in text
        assert kind.help in text
        assert f"status {kind.status}" in text
        found = re.search("<pre>(.*)</pre>", text, re.DOTALL)
        assert found is not None
        example: dict[str, Any] = json.loads(found[1])
        assert (example["code"], example["status"]) == (kind.code, kind.status)


def test_a_type_that_is_none_has_no_page(api: InProcess) -> None:
    answer = api.get("/problems/nonsense")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_the_description_can_be_tried_out_without_another_host(api: InProcess) -> None:
    page = api.get("/docs").text

    assert "SwaggerUIBundle" in page
    assert "/openapi.json" in page
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert assets
    for asset in assets:
        assert asset.startswith("/"), asset
        assert api.get(asset).status_code == 200, asset
    # Requests go to where the page came from, and the described servers are there.
    document = api.get("/openapi.json").json()
    for server in document["servers"]:
        assert api.get(f"{server['url'].rstrip('/')}/products").status_code == 200


def test_a_request_without_ids_is_given_one_for_both(api: InProcess) -> None:
    for headers in ({}, {"X-Request-Id": "x" * 201, "X-Correlation-Id": "not\tone"}):
        answer = api.get("/products/nonsense", headers=headers)
        given = answer.headers["x-request-id"]
        assert re.fullmatch("[0-9a-f-]{36}", given)
        assert answer.headers["x-correlation-id"] == given
        assert answer.json()["requestId"] == given


def test_a_request_id_is_the_correlation_of_what_it_causes(api: InProcess) -> None:
    product = api.request(
        "POST",
        "/products",
        json={"name": "x", "price": 1, "sellerId": "s"},
        headers={"X-Request-Id": "r-17"},
    ).json()

    event = "SELECT convert_from(payload, 'UTF8')::json->>'correlationid' FROM outbox"
    assert api.query(f"{event} WHERE aggregateid = %s", product["id"]) == [("r-17",)]
    rows = api.query("SELECT request_id FROM audit_log WHERE entity_id = %s", product["id"])
    assert rows == [("r-17",)]


def test_a_head_is_measured_under_its_route(api: InProcess) -> None:
    product = api.product()
    api.request("HEAD", f"/products/{product['id']}")

    metrics = api.get("/metrics").text
    line = 'shopstream_http_requests_total{method="HEAD",route="/products/{id}",status="200"} 1.0'
    assert line in metrics
