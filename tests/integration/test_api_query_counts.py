"""Each route sends a fixed number of statements, however many rows it reads or writes.

And a command goes to the database as often as it has an answer to read before it goes on.
"""

import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents
from tests.support.imports import ended, ndjson, row, upload
from tests.support.statements import Way, statements_of, watched

#: A request: method, path, and what else httpx takes.
Request = tuple[str, str, dict[str, Any]]
#: Makes what the request needs; the number is how many rows, lines or products it is about.
Scene = Callable[[InProcess, int], Request]

FEW: Final = 1
MANY: Final = 7


def _key() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


def _get(path: str) -> Scene:
    """A list of so many products, by a seller of their own."""

    def scene(api: InProcess, size: int) -> Request:
        seller = f"s-{uuid.uuid4().hex}"
        for _ in range(size):
            api.product(sellerId=seller, stock=1, name="Red mug")
        return "GET", path.format(seller=seller), {}

    return scene


def _product(method: str, path: str, **arguments: Any) -> Scene:
    def scene(api: InProcess, _size: int) -> Request:
        return method, path.format(id=api.product(stock=5)["id"]), dict(arguments)

    return scene


def _moved(api: InProcess, size: int) -> Request:
    product = api.product(stock=9)["id"]
    for _ in range(size):
        api.post(
            f"/products/{product}/stock-adjustments",
            {"delta": 1, "reason": "found"},
            headers=_key(),
        )
    return "GET", f"/products/{product}/stock-movements", {}


def _adjusting(api: InProcess, _size: int) -> Request:
    path = f"/products/{api.product(stock=9)['id']}/stock-adjustments"
    return "POST", path, {"json": {"delta": 1, "reason": "found"}, "headers": _key()}


def _reserving(api: InProcess, _size: int) -> Request:
    path = f"/products/{api.product(stock=9)['id']}/reservations"
    return "POST", path, {"json": {"quantity": 1}, "headers": _key()}


def _releasing(api: InProcess, size: int) -> Request:
    _, path, arguments = _reserving(api, size)
    made = api.request("POST", path, **arguments)
    return "DELETE", f"/reservations/{made.json()['id']}", {}


def _placing(api: InProcess, size: int) -> Request:
    items = [{"productId": api.product(stock=9)["id"], "quantity": 1} for _ in range(size)]
    return "POST", "/orders", {"json": {"items": items}, "headers": _key()}


def _order(api: InProcess, size: int, *steps: str) -> str:
    _, path, arguments = _placing(api, size)
    made = f"/orders/{api.request('POST', path, **arguments).json()['id']}"
    for step in steps:
        assert api.post(f"{made}/{step}").status_code == 200
    return made


def _ordered(method: str, path: str, *steps: str, **arguments: Any) -> Scene:
    def scene(api: InProcess, size: int) -> Request:
        return method, _order(api, size, *steps) + path, dict(arguments)

    return scene


def _refunding(api: InProcess, size: int) -> Request:
    return "POST", _order(api, size, "confirm", "pay") + "/refunds", {"headers": _key()}


def _orders(api: InProcess, size: int) -> Request:
    for _ in range(size):
        _order(api, size)
    return "GET", "/orders", {}


def _bulk(_api: InProcess, size: int) -> Request:
    items = [row(uuid.uuid4().hex) for _ in range(size)]
    return "POST", "/products/bulk", {"json": {"items": items}, "headers": _key()}


def _creating(_api: InProcess, _size: int) -> Request:
    return "POST", "/products", {"json": row(uuid.uuid4().hex)}


def _creating_once(api: InProcess, size: int) -> Request:
    method, path, arguments = _creating(api, size)
    return method, path, {**arguments, "headers": _key()}


def _importing(_api: InProcess, size: int) -> Request:
    headers = {**_key(), "Content-Type": "application/x-ndjson"}
    content = ndjson(row(uuid.uuid4().hex) for _ in range(size))
    return "POST", "/imports", {"content": content, "headers": headers}


def _imported(path: str) -> Scene:
    def scene(api: InProcess, size: int) -> Request:
        answer = upload(api, ndjson([b"{"] * size))
        ended(api, answer)
        return "GET", answer.headers["location"] + path, {}

    return scene


_STOCK: Final = {"json": {"quantity": 7, "expectedQuantity": 5}}

#: By operation id, and what it is about where one operation has several ways.
SCENES: Final[dict[str, tuple[Scene, int]]] = {
    "listProducts": (_get("/products?sellerId={seller}"), 1),
    "listProducts searching": (_get("/products?sellerId={seller}&q=red+mgu"), 2),
    "createProduct": (_creating, 1),
    "createProduct once": (_creating_once, 7),
    "createProducts": (_bulk, 6),
    "getProduct": (_product("GET", "/products/{id}"), 1),
    "patchProduct": (_product("PATCH", "/products/{id}", json={"name": "x"}), 3),
    "replaceProduct": (
        _product(
            "PUT", "/products/{id}", json={"name": "x", "price": 1}, headers={"If-Match": "*"}
        ),
        3,
    ),
    "deleteProduct": (_product("DELETE", "/products/{id}"), 3),
    "adjustStock": (_adjusting, 8),
    "setStock": (_product("PUT", "/products/{id}/stock", **_STOCK), 3),
    "reserveStock": (_reserving, 8),
    "releaseReservation": (_releasing, 5),
    "getInventory": (_product("GET", "/products/{id}/inventory"), 1),
    "listStockMovements": (_moved, 2),
    "listLowStock": (_get("/inventory/low-stock?sellerId={seller}"), 1),
    "placeOrder": (_placing, 9),
    "listOrders": (_orders, 2),
    "listOrderTransitions": (_get("/orders/transitions"), 0),
    "getOrder": (_ordered("GET", ""), 2),
    "getOrderHistory": (_ordered("GET", "/history"), 3),
    "cancelOrder": (_ordered("POST", "/cancel"), 7),
    "confirmOrder": (_ordered("POST", "/confirm"), 4),
    "payOrder": (_ordered("POST", "/pay", "confirm"), 7),
    "shipOrder": (_ordered("POST", "/ship", "confirm", "pay"), 4),
    "deliverOrder": (_ordered("POST", "/deliver", "confirm", "pay", "ship"), 4),
    "refundOrder": (_refunding, 11),
    "listAudit": (_get("/audit?sellerId={seller}"), 1),
    "createImport": (_importing, 9),
    "getImport": (_imported(""), 1),
    "listImportErrors": (_imported("/errors"), 3),
}


#: How often the commands go to the database: the keys' answer, the locks, and what is written.
WAYS: Final = {
    "createProduct": 1,
    "createProduct once": 3,
    "createProducts": 3,
    "patchProduct": 2,
    "replaceProduct": 2,
    "deleteProduct": 2,
    "adjustStock": 3,
    "setStock": 2,
    "reserveStock": 3,
    "releaseReservation": 3,
    "placeOrder": 3,
    "cancelOrder": 3,
    "confirmOrder": 2,
    "payOrder": 3,
    "shipOrder": 2,
    "deliverOrder": 2,
    "refundOrder": 4,
}


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components, SHOPSTREAM_POOL_SIZE="1") as app, watched():
        yield app


def test_every_route_is_counted(api: InProcess) -> None:
    operations = {
        operation["operationId"]
        for path in api.app.openapi()["paths"].values()
        for operation in path.values()
    }
    assert {name.partition(" ")[0] for name in SCENES} == operations


@pytest.mark.parametrize("name", SCENES)
def test_a_route_sends_as_many_statements_for_many_rows_as_for_one(
    api: InProcess, name: str
) -> None:
    scene, expected = SCENES[name]
    # The first request may open a connection.
    _answered(api, scene, FEW)
    few, many = _answered(api, scene, FEW), _answered(api, scene, MANY)
    counted = [sum(len(way) for way in ways) for ways in (few, many)]
    assert counted == [expected, expected], "\n\n".join(text for way in many for text in way)


@pytest.mark.parametrize("name", WAYS)
def test_a_command_waits_only_for_the_answers_that_it_reads(api: InProcess, name: str) -> None:
    scene, _ = SCENES[name]
    _answered(api, scene, FEW)
    ways = _answered(api, scene, MANY)
    assert len(ways) == WAYS[name], "\n\n".join("\n+ ".join(way) for way in ways)


def _answered(api: InProcess, scene: Scene, size: int) -> list[Way]:
    method, path, arguments = scene(api, size)
    answer, sent = statements_of(api, method, path, **arguments)
    assert httpx.codes.is_success(answer.status_code), answer.text
    return sent
