"""The product routes as the contract spells them, on a real database."""

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from tests.support.api import ApiProcess
from tests.support.components import LocalComponents

BASE = {"name": "Test Product", "price": 99.99, "sellerId": "seller1"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[ApiProcess]:
    with ApiProcess.beside(session_components, SHOPSTREAM_RELAY="off") as process:
        yield process


def _post(api: ApiProcess, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    return api.client.post("/products", content=content, headers={**JSON, **headers})


def _code(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"] == f"/problems/{body['code']}"
    assert body["requestId"] == answer.headers["x-request-id"]
    code: str = body["code"]
    return code


def test_the_documented_request_works_as_it_stands(api: ApiProcess) -> None:
    answer = _post(api, b'{"name":"Test Product","price":99.99,"stock":10,"sellerId":"seller1"}')
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == f"/products/{body['id']}"
    assert answer.headers["etag"] == '"v1.0"'
    assert uuid.UUID(body["id"]).version == 7
    assert list(body) == [
        "id",
        "name",
        "description",
        "sku",
        "category",
        "tags",
        "price",
        "priceMinor",
        "currency",
        "stock",
        "sellerId",
        "status",
        "version",
        "inventoryVersion",
        "createdAt",
        "updatedAt",
    ]
    assert (body["price"], body["priceMinor"], body["currency"]) == (99.99, 9_999, "USD")
    assert (body["status"], body["version"], body["inventoryVersion"]) == ("active", 1, 0)
    assert (body["tags"], body["sku"]) == ([], None)
    read = api.client.get(answer.headers["location"])
    assert read.content == answer.content
    assert read.headers["etag"] == '"v1.0"'


def test_every_route_answers_under_the_alias_too(api: ApiProcess) -> None:
    answer = api.client.post("/api/v1/products", json=BASE)
    location = answer.headers["location"]
    assert location.startswith("/api/v1/products/")
    assert api.client.get(location).json() == answer.json()
    assert api.client.get(location.removeprefix("/api/v1")).json() == answer.json()
    for path in ("/health/live", "/health/ready", "/problems/not_found", "/orders/transitions"):
        assert api.client.get(f"/api/v1{path}").status_code == 200
    for path in ("/v1/products", "/api/v1/nope"):
        assert _code(api.client.get(path), 404) == "not_found"


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "   "}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": " " * 400 + "x"}, "/name"),
        ({"name": None}, "/name"),
        ({"name": 5}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": "\ud800"}, "/name"),
        ({"description": "x" * 10_001}, "/description"),
        ({"sku": "x" * 65}, "/sku"),
        ({"tags": ["x"] * 21}, "/tags"),
        ({"tags": ["x" * 51]}, "/tags"),
        ({"tags": "x"}, "/tags"),
        ({"tags": None}, "/tags"),
        ({"sellerId": "no spaces"}, "/sellerId"),
        ({"sellerId": "x" * 65}, "/sellerId"),
        ({"price": "99.99"}, "/price"),
        ({"price": -1}, "/price"),
        ({"price": 0.001}, "/price"),
        ({"price": 10_000_000_000.01}, "/price"),
        ({"price": None}, "/price"),
        ({"price": True}, "/price"),
        ({"stock": -1}, "/stock"),
        ({"stock": 10**9 + 1}, "/stock"),
        ({"stock": 1.5}, "/stock"),
        ({"stock": "1"}, "/stock"),
        ({"currency": "usd"}, "/currency"),
        ({"currency": "XXQ"}, "/currency"),
        ({"status": "deleted"}, "/status"),
        ({"id": str(uuid.uuid4())}, "/id"),
        ({"version": 1}, "/version"),
        ({"priceMinor": 1}, "/priceMinor"),
        ({"colour": "red"}, "/colour"),
        ({"a/b~c": 1}, "/a~1b~0c"),
    ],
)
def test_a_member_that_breaks_a_rule_is_named(
    api: ApiProcess, members: dict[str, Any], pointer: str
) -> None:
    answer = _post(api, {**BASE, **members})
    assert _code(answer, 422) == "validation_failed"
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


def test_all_faults_of_a_body_are_told_at_once(api: ApiProcess) -> None:
    answer = _post(api, {"stock": -1})
    pointers = {fault["pointer"] for fault in answer.json()["errors"]}
    assert pointers == {"/name", "/price", "/stock", "/sellerId"}
    answer = _post(api, {"name": "", "price": 0.001, "stock": -1})
    pointers = {fault["pointer"] for fault in answer.json()["errors"]}
    assert pointers == {"/name", "/price", "/stock", "/sellerId"}
    # Of a currency that is none nothing can be said about the price.
    answer = _post(api, {**BASE, "price": 0.001, "currency": "usd"})
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/currency"]


@pytest.mark.parametrize(
    ("written", "minor"),
    [(b"99.990", 9_999), (b"1e2", 10_000), (b"0", 0), (b"10000000000", 10**12), (b"0.1", 10)],
)
def test_a_price_is_read_as_it_is_written(api: ApiProcess, written: bytes, minor: int) -> None:
    answer = _post(api, b'{"name":"x","sellerId":"s","price":%s}' % written)
    assert answer.status_code == 201
    assert answer.json()["priceMinor"] == minor


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'name':1}",
        b'{"name":"x","price":NaN,"sellerId":"s"}',
        b'{"name":"x","price":Infinity,"sellerId":"s"}',
        b'{"name":"\xff","price":1,"sellerId":"s"}',
        b'\xef\xbb\xbf{"name":"x","price":1,"sellerId":"s"}',
        b"[" * 100_000,
        b'{"name":"x","price":1e99999999999999999999,"sellerId":"s"}',
    ],
)
def test_a_body_that_is_not_json_is_malformed(api: ApiProcess, body: bytes) -> None:
    assert _code(_post(api, body), 400) == "malformed_json"


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"null", b"1", b"true"])
def test_a_body_that_is_no_object_is_invalid(api: ApiProcess, body: bytes) -> None:
    assert _code(_post(api, body), 422) == "validation_failed"


def test_another_media_type_is_refused(api: ApiProcess) -> None:
    for media_type in ("text/plain", "application/xml", "application/json; charset=latin-1"):
        answer = _post(api, BASE, **{"Content-Type": media_type})
        assert _code(answer, 415) == "unsupported_media_type"


def test_a_body_above_the_limit_is_refused_announced_or_chunked(api: ApiProcess) -> None:
    body = json.dumps({**BASE, "description": "x" * 1_048_576}).encode()
    assert _code(_post(api, body), 413) == "body_too_large"
    chunks = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
    answer = api.client.post("/products", content=chunks, headers=JSON)
    assert _code(answer, 413) == "body_too_large"


def test_text_is_returned_as_it_was_sent(api: ApiProcess) -> None:
    name, description = "  Cafe\u0301 \t \U0001f600 ", "one\r\ntwo\u0001"
    answer = _post(api, {**BASE, "name": name, "description": description})
    assert (answer.json()["name"], answer.json()["description"]) == (name, description)
    assert _post(api, {**BASE, "name": " " * 50 + "x" * 200 + " " * 50}).status_code == 201


def test_a_patch_changes_what_it_names_and_takes_one_version(api: ApiProcess) -> None:
    product = api.product(description="d", sku=uuid.uuid4().hex)
    url = f"/products/{product['id']}"
    answer = api.client.patch(
        url,
        content=b'{"description":null,"name":"New"}',
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"v2.0"'
    changed = answer.json()
    assert changed == {
        **product,
        "name": "New",
        "description": None,
        "version": 2,
        "updatedAt": changed["updatedAt"],
    }
    same = api.client.patch(url, json={"name": "New", "sellerId": "seller1"})
    assert (same.status_code, same.content) == (200, answer.content)
    events = "SELECT type FROM event_audit WHERE subject = %s ORDER BY sequence"
    assert api.client.patch(url, json={"name": "N", "price": 1}).status_code == 200
    assert api.query(events, product["id"]) == [
        ("product.created",),
        ("product.updated",),
        ("product.price_changed",),
    ]


def test_a_patch_refuses_what_it_may_not_change(api: ApiProcess) -> None:
    product = api.product(stock=3)
    for body, pointer in (
        ({"stock": 3}, "/stock"),
        ({"sellerId": "other"}, "/sellerId"),
        ({"name": None}, "/name"),
        ({"price": None}, "/price"),
        ({"version": 1}, "/version"),
        ({"currency": "JPY"}, "/price"),
    ):
        answer = api.client.patch(f"/products/{product['id']}", json=body)
        assert _code(answer, 422) == "validation_failed"
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert (
        "stock-adjustments"
        in api.client.patch(f"/products/{product['id']}", json={"stock": 1}).text
    )


def test_a_put_replaces_all_members(api: ApiProcess) -> None:
    product = api.product(description="d", tags=["a"], stock=4, currency="EUR")
    url = f"/products/{product['id']}"
    answer = api.client.put(url, json={"name": "New", "price": 1.5, "stock": 4})
    assert answer.status_code == 200
    replaced = answer.json()
    assert (replaced["description"], replaced["tags"], replaced["currency"]) == (None, [], "USD")
    assert (replaced["stock"], replaced["version"]) == (4, 2)
    again = api.client.put(url, json={"name": "New", "price": 1.50})
    assert again.content == answer.content
    assert _code(api.client.put(url, json={"name": "x", "price": 1, "stock": 5}), 422)
    assert _code(api.client.put(url, json={"name": "x", "price": 1, "sellerId": "z"}), 422)
    assert _code(api.client.put(url, json={"price": 1}), 422) == "validation_failed"


def test_a_stale_version_is_refused(api: ApiProcess) -> None:
    product = api.product()
    url = f"/products/{product['id']}"
    assert api.client.patch(url, json={"name": "a"}, headers={"If-Match": '"v1.0"'}).is_success
    for answer in (
        api.client.patch(url, json={"name": "b"}, headers={"If-Match": '"v1.0"'}),
        api.client.put(url, json={"name": "b", "price": 1}, headers={"If-Match": '"v1.0"'}),
        api.client.delete(url, headers={"If-Match": '"v1.0"'}),
    ):
        assert _code(answer, 412) == "version_mismatch"
    assert api.client.delete(url, headers={"If-Match": "*"}).status_code == 204


def test_an_unchanged_product_is_not_sent_again(api: ApiProcess) -> None:
    product = api.product(stock=2)
    url = f"/products/{product['id']}"
    answer = api.client.get(url, headers={"If-None-Match": '"v1.0"'})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == '"v1.0"'
    api.client.put(f"{url}/stock", json={"quantity": 9, "expectedQuantity": 2})
    changed = api.client.get(url, headers={"If-None-Match": '"v1.0"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"v1.1"')


def test_a_deleted_product_is_gone(api: ApiProcess) -> None:
    product = api.product(sellerId="deleter", sku="gone")
    url = f"/products/{product['id']}"
    answer = api.client.delete(url)
    assert (answer.status_code, answer.content) == (204, b"")
    for gone in (
        api.client.get(url),
        api.client.delete(url),
        api.client.patch(url, json={"name": "x"}),
        api.client.get(f"{url}/inventory"),
    ):
        assert _code(gone, 404) == "not_found"
    assert api.client.get("/products?sellerId=deleter").json()["data"] == []
    assert _code(api.order((product["id"], 1)), 422) == "product_not_available"
    assert api.product(sellerId="deleter", sku="gone")["sku"] == "gone"


def test_a_sku_is_unique_among_one_sellers_products(api: ApiProcess) -> None:
    sku = uuid.uuid4().hex
    api.product(sku=sku)
    assert _code(_post(api, {**BASE, "sku": sku}), 409) == "duplicate_sku"
    other = api.product(sku=sku, sellerId="seller2")
    mine = api.product(sellerId="seller2")
    answer = api.client.patch(f"/products/{mine['id']}", json={"sku": sku})
    assert _code(answer, 409) == "duplicate_sku"
    assert api.client.get(f"/products/{other['id']}").json() == other


def test_a_seller_writes_for_itself_only(api: ApiProcess) -> None:
    product = api.product(sellerId="owner")
    url, stranger = f"/products/{product['id']}", {"X-Seller-Id": "stranger"}
    for answer in (
        api.client.patch(url, json={"name": "x"}, headers=stranger),
        api.client.put(url, json={"name": "x", "price": 1}, headers=stranger),
        api.client.delete(url, headers=stranger),
        api.client.put(
            f"{url}/stock", json={"quantity": 1, "expectedQuantity": 0}, headers=stranger
        ),
    ):
        assert _code(answer, 404) == "not_found"
    assert api.client.get(url, headers=stranger).status_code == 200
    assert _code(_post(api, BASE, **stranger), 403) == "forbidden"
    for body in ({"sellerId": "stranger"}, {"sellerId": "third"}):
        named = {**body, "name": "x", "price": 1}
        owner = {"X-Seller-Id": "owner"}
        assert _code(api.client.patch(url, json=body, headers=owner), 403) == "forbidden"
        assert _code(api.client.put(url, json=named, headers=owner), 403) == "forbidden"
    assert api.client.get(url).json() == product
    own = _post(api, {"name": "x", "price": 1}, **stranger)
    assert own.json()["sellerId"] == "stranger"


def test_a_list_is_read_page_by_page_in_both_directions(api: ApiProcess) -> None:
    seller = f"pager-{uuid.uuid4().hex}"
    made = [api.product(sellerId=seller, name=f"n{n}")["id"] for n in range(5)][::-1]
    url = f"/products?sellerId={seller}&limit=2"
    first = api.client.get(url).json()
    assert [row["id"] for row in first["data"]] == made[:2]
    assert first["hasMore"]
    assert first["prevCursor"] is None
    # Stable under inserts: a newer product does not shift what follows.
    api.product(sellerId=seller)
    second = api.client.get(f"{url}&cursor={first['nextCursor']}").json()
    assert [row["id"] for row in second["data"]] == made[2:4]
    third = api.client.get(f"{url}&cursor={second['nextCursor']}").json()
    assert [row["id"] for row in third["data"]] == made[4:]
    assert (third["hasMore"], third["nextCursor"]) == (False, None)
    back = api.client.get(f"{url}&cursor={second['prevCursor']}").json()
    assert [row["id"] for row in back["data"]] == made[:2]
    for wrong in (f"/products?limit=2&cursor={first['nextCursor']}", "/products?cursor=abc"):
        assert _code(api.client.get(wrong), 400) == "invalid_cursor"


def test_a_list_is_narrowed_by_its_filters(api: ApiProcess) -> None:
    seller = f"filter-{uuid.uuid4().hex}"
    cheap = api.product(sellerId=seller, price=1, category="books")
    dear = api.product(sellerId=seller, price=10, status="draft")
    yen = api.product(sellerId=seller, price=10, currency="JPY")

    def ids(query: str) -> list[str]:
        answer = api.client.get(f"/products?sellerId={seller}&{query}")
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["data"]]

    assert ids("category=books") == [cheap["id"]]
    assert ids("status=draft") == [dear["id"]]
    assert ids("priceMin=10") == [yen["id"], dear["id"]]
    assert ids("priceMax=9.99") == [cheap["id"]]
    assert ids(f"updatedSince={yen['updatedAt']}") == [yen["id"]]
    assert ids("priceMin=1e3") == []
    assert ids("updatedSince=2020-01-01t00:00:00.5%2b05:30") == [yen["id"], dear["id"], cheap["id"]]


def test_a_list_is_searched_by_words(api: ApiProcess) -> None:
    seller = f"words-{uuid.uuid4().hex}"
    mug = api.product(sellerId=seller, name="Red Mug", description="For tea, 50% off (new)")
    cup = api.product(sellerId=seller, name="Blue café cup", sku="MUG-17_a", status="draft")
    api.product(sellerId=seller, name="Hundred smugglers")
    gone = api.product(sellerId=seller, name="Red mug, cracked")
    assert api.client.delete(f"/products/{gone['id']}").status_code == 204

    def ids(words: str, **more: str) -> list[str]:
        answer = api.client.get("/products", params={"sellerId": seller, "q": words, **more})
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["data"]]

    # Any case, the beginning of a word is enough, all words must be there; a name weighs most.
    assert ids("mug") == ids("MU") == [mug["id"], cup["id"]]
    assert ids("red  tea") == ids("tea (new) 50%") == [mug["id"]]
    assert ids("red blue") == ids("ug") == ids("r.d") == ids("\\w") == ids("%%%") == []
    assert ids("mug-17_A") == ids("17") == ids("mug-17.a") == [cup["id"]]
    assert ids("café cup") == ids("CAFE") == [cup["id"]]
    assert ids("mug", status="active") == [mug["id"]]
    assert len(ids(" ")) == 3
    # A cursor belongs to its words.
    first = api.client.get("/products", params={"sellerId": seller, "q": "mug", "limit": 1}).json()
    more = {"limit": "1", "cursor": first["nextCursor"]}
    assert ids("mug", **more) == [cup["id"]]
    answer = api.client.get("/products", params={"sellerId": seller, "q": "cup", **more})
    assert _code(answer, 400) == "invalid_cursor"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=-1",
        "priceMin=x",
        "priceMax=NaN",
        "priceMin=1_0",
        "priceMin=%201",
        "updatedSince=yesterday",
        "updatedSince=20260101T000000Z",
        "updatedSince=2026-W01-1T00:00:00Z",
        "q=%00",
        f"q={'x' * 201}",
        "updatedSince=2026-01-01T00:00:00",
        "status=gone",
    ],
)
def test_a_bad_parameter_of_a_list_is_named(api: ApiProcess, query: str) -> None:
    answer = api.client.get(f"/products?{query}")
    assert _code(answer, 422) == "validation_failed"
    assert answer.json()["errors"][0]["pointer"] == query.partition("=")[0]


def test_unknown_addresses_and_methods_are_problems_too(api: ApiProcess) -> None:
    for path in ("/nope", "/products/", "/products/not-an-id", f"/products/{uuid.uuid4()}"):
        assert _code(api.client.get(path), 404) == "not_found"
    answer = api.client.post(f"/products/{uuid.uuid4()}")
    assert _code(answer, 405) == "method_not_allowed"
    assert answer.headers["allow"] == "GET, HEAD, PUT, PATCH, DELETE"
    answer = api.client.put("/api/v1/products")
    assert (_code(answer, 405), answer.headers["allow"]) == (
        "method_not_allowed",
        "GET, HEAD, POST",
    )
    assert api.client.get("/problems/not_found").status_code == 200
    assert _code(api.client.get("/problems/nope"), 404) == "not_found"


def test_a_head_tells_what_a_get_would_without_its_body(api: ApiProcess) -> None:
    url = f"/products/{api.product()['id']}"
    head, get = api.client.head(url), api.client.get(url)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-length", "content-type"):
        assert head.headers[name] == get.headers[name]
    assert api.client.head(url, headers={"If-None-Match": get.headers["etag"]}).status_code == 304


def test_a_fault_of_ours_is_a_problem_with_its_ids(api: ApiProcess) -> None:
    product = api.product()
    # A row the code cannot have written: the reader of rows knows no such currency.
    api.execute("UPDATE products SET currency = 'XXQ' WHERE id = %s", product["id"])
    try:
        answer = api.client.get(
            f"/products/{product['id']}", headers={"Origin": "http://localhost:5173"}
        )
        assert _code(answer, 500) == "internal_error"
        assert answer.headers["access-control-allow-origin"] == "*"
    finally:
        api.execute("UPDATE products SET currency = 'USD' WHERE id = %s", product["id"])


def test_a_request_keeps_its_ids(api: ApiProcess) -> None:
    answer = api.client.get("/products", headers={"X-Request-Id": "r-1", "X-Correlation-Id": "c-1"})
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["x-correlation-id"] == "c-1"
    assert (
        api.client.get("/products", headers={"X-Request-Id": "a b"}).headers["x-request-id"]
        != "a b"
    )


def test_a_page_of_another_origin_may_call(api: ApiProcess) -> None:
    answer = api.client.get("/products", headers={"Origin": "http://localhost:5173"})
    assert answer.headers["access-control-allow-origin"] == "*"
    exposed = answer.headers["access-control-expose-headers"].lower()
    for name in ("etag", "location", "x-stream-position", "idempotent-replayed", "x-request-id"):
        assert name in exposed
    preflight = api.client.options(
        "/products",
        headers={
            "Origin": "http://localhost:5173",
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "if-match,idempotency-key,content-type",
        },
    )
    assert preflight.status_code == 200


def test_metrics_tell_requests_by_their_route(api: ApiProcess) -> None:
    product = api.product()
    api.client.get(f"/products/{product['id']}")
    text = api.client.get("/metrics").text
    assert (
        'shopstream_http_requests_total{method="GET",route="/products/{id}",status="200"}' in text
    )
    assert product["id"] not in text


def test_the_description_of_the_api_is_there(api: ApiProcess) -> None:
    document = api.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert {"get", "post"} <= document["paths"]["/products"].keys()
    assert not any(path.startswith("/api/v1") for path in document["paths"])
    assert api.client.get("/docs").status_code == 200
    operations = [entry for path in document["paths"].values() for entry in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    schemas = document["components"]["schemas"]
    referred = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert referred <= schemas.keys()
    # The examples are requests that work, and the answers are what the schemas promise.
    (example,) = schemas["NewProduct"]["examples"]
    created = api.client.post("/products", json=example)
    assert created.status_code == 201
    registry = {"$ref": "#/components/schemas/Product", "components": document["components"]}
    jsonschema.Draft202012Validator(registry).validate(created.json())
    problem = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    refused = api.client.post("/products", json={})
    jsonschema.Draft202012Validator(problem).validate(refused.json())
