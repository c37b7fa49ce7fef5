"""What odd and broken requests meet at the application's edge, on hot paths and on all others."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

from shopstream_api.exact_json import DEPTH_MAX

ORIGIN: Final = (b"origin", b"http://shop.example")
JSON: Final = (b"content-type", b"application/json")
#: In no client's mouth: a query that is no UTF-8, unescaped.
BAD_QUERY: Final = b"x=\xff"

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Sent:
    """What the application sent."""

    messages: list[Any] = field(default_factory=list)

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    def problem(self) -> Any:
        assert self.headers[b"content-type"] == b"application/problem+json"
        return msgspec.json.decode(b"".join(part["body"] for part in self.messages[1:]))


def _raw(
    api: InProcess,
    method: str,
    path: str,
    *messages: dict[str, Any],
    headers: Headers = (),
    query: bytes = b"",
) -> Sent:
    """Call the application as the server does; what a client library would not send included."""
    sent = Sent()
    arriving = iter(messages or ({"type": "http.request", "body": b"", "more_body": False},))

    async def receive() -> dict[str, Any]:
        return next(arriving)

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        sent.messages.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"test"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }
    api.run(lambda: api.app(scope, receive, send))
    return sent


def _body(content: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": False}


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        yield running


def _counts(api: InProcess) -> dict[str, float]:
    """Requests by the labels of their series."""
    name = "shopstream_http_requests_total"
    lines = [line for line in api.get("/metrics").text.splitlines() if line.startswith(name)]
    found = (line.removeprefix(name).rsplit(" ", 1) for line in lines)
    return {labels: float(count) for labels, count in found}


@pytest.mark.parametrize("path", ["/products/{}", "/products/{}/inventory", "/api/v1/orders/{}"])
def test_a_fault_of_ours_is_a_problem_with_its_ids_on_every_path(
    api: InProcess, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(api.resources.database, "direct", broken)
    monkeypatch.setattr(api.resources.database, "reading", broken)

    sent = _raw(api, "GET", path.format(api.resources.ids.new_id()), headers=[ORIGIN])

    assert (sent.status, sent.problem()["code"]) == (500, "internal_error")
    assert sent.headers[b"access-control-allow-origin"] == b"*"
    assert sent.problem()["requestId"] == sent.headers[b"x-request-id"].decode()


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/nowhere", b"", 404),
        ("DELETE", "/products", b"", 405),
        ("GET", "/products/00000000-0000-7000-8000-000000000000", b"", 404),
        ("POST", "/products", b"{}", 422),
        ("POST", "/products", b'{"name":"x","price":1,"sellerId":"s"}', 201),
        ("POST", "/orders", b"{}", 422),
    ],
)
def test_a_query_that_is_no_utf_8_changes_nothing(
    api: InProcess, method: str, path: str, content: bytes, status: int
) -> None:
    sent = _raw(api, method, path, _body(content), headers=[JSON], query=BAD_QUERY)

    assert sent.status == status
    if status >= 400:
        assert sent.problem()["instance"] == path


def test_an_order_is_placed_whatever_the_query_is(api: InProcess) -> None:
    product = api.product(stock=1)
    body = msgspec.json.encode({"items": [{"productId": product["id"], "quantity": 1}]})

    sent = _raw(api, "POST", "/orders", _body(body), headers=[JSON], query=BAD_QUERY)

    assert sent.status == 201
    assert sent.headers[b"location"].startswith(b"/orders/")


def test_the_instance_of_a_problem_is_a_reference_as_uris_are_written(api: InProcess) -> None:
    assert _raw(api, "GET", "/a b/ü?c#d").problem()["instance"] == "/a%20b/%C3%BC%3Fc%23d"


@pytest.mark.parametrize("path", ["/products", "/orders"])
def test_a_client_that_goes_away_while_it_sends_is_no_fault_of_ours(
    api: InProcess, path: str
) -> None:
    begun = {"type": "http.request", "body": b'{"na', "more_body": True}

    sent = _raw(api, "POST", path, begun, {"type": "http.disconnect"}, headers=[JSON])

    assert sent.messages == []
    assert _counts(api)[f'{{method="POST",route="{path}",status="499"}}'] == 1


def test_a_method_that_nobody_knows_makes_no_series_of_its_own(api: InProcess) -> None:
    assert _raw(api, "FROBNICATE", "/products").status == 405

    counts = _counts(api)
    assert '{method="any",route="/products",status="405"}' in counts
    assert not [series for series in counts if "FROBNICATE" in series]


def test_both_addresses_of_a_route_are_counted_as_one_hot_or_not(api: InProcess) -> None:
    before = _counts(api)
    for prefix in ("", "/api/v1"):
        product = api.product()
        assert api.get(f"{prefix}/products/{product['id']}").status_code == 200
        assert api.request("DELETE", f"{prefix}/products/{product['id']}").status_code == 204

    more = {series: n - before.get(series, 0) for series, n in _counts(api).items()}
    assert more['{method="GET",route="/products/{id}",status="200"}'] == 2
    assert more['{method="DELETE",route="/products/{id}",status="204"}'] == 2
    assert not [series for series in more if "/api/v1" in series]


@pytest.mark.parametrize("levels", [DEPTH_MAX, 400, 900, 100_000])
def test_a_body_that_is_nested_too_deeply_is_refused_with_a_key_too(
    api: InProcess, levels: int
) -> None:
    nested = b'{"items":[{"name":' + b"[" * levels + b"]" * levels + b"}]}"

    answer = api.request(
        "POST",
        "/products/bulk",
        content=nested,
        headers={"Content-Type": "application/json", "Idempotency-Key": f"deep-{levels}"},
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")
