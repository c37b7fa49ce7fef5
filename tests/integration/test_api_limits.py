"""Requests are counted where that is wished: each caller for itself, watchers of health never."""

from collections.abc import Iterator

import httpx
import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

from shopstream_api.web.limits import IMPORTS_PER_MINUTE

QUOTA = 20


@pytest.fixture
def api(components: LocalComponents) -> Iterator[InProcess]:
    with in_process(components, SHOPSTREAM_RATE_LIMIT_PER_MINUTE=str(QUOTA)) as running:
        yield running


def _until_refused(api: InProcess, path: str, **headers: str) -> list[httpx.Response]:
    """Answers up to the first 429; a slow machine gives a few tokens back on the way."""
    answers: list[httpx.Response] = []
    while not answers or answers[-1].status_code != 429:
        assert len(answers) < 3 * QUOTA
        answers.append(api.get(path, headers=headers))
    return answers


def test_a_caller_above_its_quota_is_told_to_wait(api: InProcess) -> None:
    answers = _until_refused(api, "/orders/transitions", **{"X-Seller-Id": "s1"})

    assert {answer.status_code for answer in answers[:-1]} == {200}
    assert len(answers) > QUOTA
    assert answers[0].headers["ratelimit-policy"] == f'"default";q={QUOTA};w=60'
    assert answers[0].headers["ratelimit"] == f'"default";r={QUOTA - 1};t=3'
    refused = answers[-1]
    assert refused.json()["code"] == "rate_limited"
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 3
    assert refused.headers["ratelimit"].startswith('"default";r=0;')
    assert refused.headers["x-request-id"] == refused.json()["requestId"]


def test_callers_are_told_apart_by_seller_and_else_by_address(api: InProcess) -> None:
    _until_refused(api, "/orders/transitions", **{"X-Seller-Id": "s1"})

    for headers in ({"X-Seller-Id": "s2"}, {}):
        answer = api.get("/orders/transitions", headers=headers)
        assert answer.headers["ratelimit"] == f'"default";r={QUOTA - 1};t=3'
    # What can be no seller's id buys no bucket of its own.
    answer = api.get("/orders/transitions", headers={"X-Seller-Id": "not one"})
    assert not answer.headers["ratelimit"].startswith(f'"default";r={QUOTA - 1};')


def test_imports_have_a_smaller_quota_of_their_own(api: InProcess) -> None:
    answer = api.request("POST", "/imports", content=b"", headers={"Content-Type": "text/csv"})

    assert answer.headers["ratelimit-policy"] == f'"imports";q={IMPORTS_PER_MINUTE};w=60'
    answer = api.get("/products")
    assert answer.headers["ratelimit"] == f'"default";r={QUOTA - 1};t=3'


def test_health_and_metrics_are_not_counted(api: InProcess) -> None:
    for path in ("/health/live", "/api/v1/health/live", "/metrics"):
        answers = [api.get(path) for _ in range(QUOTA + 1)]
        assert {answer.status_code for answer in answers} == {200}
        assert "ratelimit" not in answers[0].headers


def test_a_page_of_another_origin_may_read_what_is_left(api: InProcess) -> None:
    answer = api.get("/products", headers={"Origin": "http://shop.example"})

    exposed = answer.headers["access-control-expose-headers"]
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(exposed.split(", "))


def test_nothing_is_counted_by_default(components: LocalComponents) -> None:
    with in_process(components) as running:
        answer = running.get("/products")

    assert "ratelimit" not in answer.headers
