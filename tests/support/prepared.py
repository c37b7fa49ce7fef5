"""For each operation of the description a request that succeeds, on things of its own."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx
from tests.support.app import InProcess

NDJSON: Final = "application/x-ndjson"
#: What leads to the status that an action needs.
_BEFORE: Final = {
    "confirm": (),
    "cancel": (),
    "pay": ("confirm",),
    "ship": ("confirm", "pay"),
    "deliver": ("confirm", "pay", "ship"),
    "refunds": ("confirm", "pay"),
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request; ``body`` is JSON, or the text of a file."""

    method: str
    path: str
    body: Any = None

    def send(self, api: InProcess, **headers: str) -> httpx.Response:
        arguments: dict[str, Any] = {"headers": headers}
        if isinstance(self.body, str):
            arguments |= {"content": self.body, "headers": {"Content-Type": NDJSON, **headers}}
        elif self.body is not None:
            arguments["json"] = self.body
        return api.request(self.method, self.path, **arguments)


class Preparer:
    """Makes what requests need, for one seller."""

    def __init__(self, api: InProcess, seller: str) -> None:
        self._api = api
        self._seller = seller
        self._made: dict[str, Callable[[], Prepared]] = {
            "createProduct": lambda: Prepared("POST", "/products", self._new()),
            "createProducts": lambda: Prepared("POST", "/products/bulk", {"items": [self._new()]}),
            "patchProduct": lambda: Prepared("PATCH", self._product(), {"name": "changed"}),
            "replaceProduct": lambda: Prepared("PUT", self._product(), {"name": "x", "price": 2}),
            "deleteProduct": lambda: Prepared("DELETE", self._product()),
            "adjustStock": lambda: Prepared(
                "POST", f"{self._product()}/stock-adjustments", {"delta": -1, "reason": "lost"}
            ),
            "setStock": lambda: Prepared(
                "PUT", f"{self._product()}/stock", {"quantity": 7, "expectedQuantity": 10}
            ),
            "reserveStock": lambda: Prepared(
                "POST", f"{self._product()}/reservations", {"quantity": 1}
            ),
            "releaseReservation": lambda: Prepared("DELETE", self._reservation()),
            "placeOrder": lambda: Prepared("POST", "/orders", self._basket()),
            "confirmOrder": lambda: self._action("confirm"),
            "cancelOrder": lambda: self._action("cancel"),
            "payOrder": lambda: self._action("pay"),
            "shipOrder": lambda: self._action("ship"),
            "deliverOrder": lambda: self._action("deliver"),
            "refundOrder": lambda: self._action("refunds", {"amountMinor": 1}),
            "createImport": lambda: Prepared("POST", "/imports", self._file()),
            "getOrder": lambda: Prepared("GET", self._order()),
            "getOrderHistory": lambda: Prepared("GET", f"{self._order()}/history"),
            "getImport": lambda: Prepared("GET", self._import()),
            "listImportErrors": lambda: Prepared("GET", f"{self._import()}/errors"),
        }

    def __call__(self, operation_id: str) -> Prepared:
        return self._made[operation_id]()

    def _new(self) -> dict[str, Any]:
        return {"name": "x", "price": 1, "sellerId": self._seller, "sku": uuid.uuid4().hex}

    def _product(self) -> str:
        return f"/products/{self._api.product(sellerId=self._seller, stock=10)['id']}"

    def _basket(self) -> dict[str, Any]:
        product = self._product().rpartition("/")[2]
        return {"items": [{"productId": product, "quantity": 1}]}

    def _file(self) -> str:
        return json.dumps(self._new()) + "\n"

    def _created(self, path: str, body: Any, **headers: str) -> str:
        answer = Prepared("POST", path, body).send(self._api, **headers)
        assert answer.is_success, answer.text
        made: str = answer.json()["id"]
        return made

    def _order(self) -> str:
        return f"/orders/{self._created('/orders', self._basket())}"

    def _reservation(self) -> str:
        path = f"{self._product()}/reservations"
        return f"/reservations/{self._created(path, {'quantity': 1})}"

    def _import(self) -> str:
        key = {"Idempotency-Key": uuid.uuid4().hex, "X-Seller-Id": self._seller}
        return f"/imports/{self._created('/imports', self._file(), **key)}"

    def _action(self, verb: str, body: object = None) -> Prepared:
        order = self._order()
        for step in _BEFORE[verb]:
            assert self._api.post(f"{order}/{step}").is_success
        return Prepared("POST", f"{order}/{verb}", body)
