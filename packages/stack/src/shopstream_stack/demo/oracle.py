"""What must have happened, worked out from REST requests and answers alone.

This is a second, independent reading of the contract: it imports nothing from the services and
nothing they share, so that a mistake made there is not repeated here. It is pure; feed it every
exchange in the order in which the answers to one product or order came.

Rules it holds (docs/protocols.md and the contract say them in full):

- A command is one version of its aggregate and one event; a rejected or replayed write is none.
- A product and its inventory are two aggregates with one subject: `shop.products` counts product
  versions, `shop.inventory` counts inventory versions from 1, warnings included.
- A warning is a crossing: low_stock from above the threshold to 1..threshold, out_of_stock when
  0 is reached (a jump straight to 0 gives only this one). None at creation.

An order that expires by itself is not seen over REST as a command, so it is not modelled.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from shopstream_stack.demo.tally import Selling, Tally

PRODUCTS: Final = "shop.products"
ORDERS: Final = "shop.orders"
INVENTORY: Final = "shop.inventory"

#: Digits after the point, where they are not two (ISO 4217).
EXPONENTS: Final[Mapping[str, int]] = {"JPY": 0, "KRW": 0, "CLP": 0, "BHD": 3, "KWD": 3, "TND": 3}

#: Order actions, the status each one leads to and the event it is.
ACTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "confirm": ("confirmed", "order.confirmed"),
    "pay": ("paid", "order.paid"),
    "ship": ("shipped", "order.shipped"),
    "deliver": ("delivered", "order.delivered"),
    "cancel": ("cancelled", "order.cancelled"),
}

_TEXTS: Final = ("name", "description", "sku", "category", "currency", "status")

Json = Mapping[str, Any]


class NotModelled(Exception):
    """The oracle does not know what this command does, so nothing can be judged by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer; numbers with a point are Decimal. ``replayed``: the answer
    carried Idempotent-Replayed."""

    method: str
    path: str
    status: int
    request: Json | None = None
    answer: Json | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True, order=True)
class ExpectedEvent:
    """One event that must be on the log exactly once."""

    topic: str
    subject: str
    sequence: int
    type: str
    seller_id: str

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes it one event: the unit of sequence is (topic, subject)."""
        return self.topic, self.subject, self.sequence


@dataclass(slots=True)
class Product:
    """A product and its inventory as the oracle believes them to be."""

    id: str
    seller_id: str
    texts: dict[str, Any]
    price_minor: int
    stock: int
    version: int = 1
    inventory_version: int = 0
    deleted: bool = False


@dataclass(slots=True)
class Order:
    """An order as the oracle believes it to be; lines are product id → (quantity, total)."""

    id: str
    seller_id: str
    currency: str
    lines: dict[str, tuple[int, int]]
    status: str = "pending"
    refunded_minor: int = 0
    version: int = 1

    @property
    def total_minor(self) -> int:
        return sum(total for _, total in self.lines.values())

    def refund_shares(self, refunded_minor: int) -> dict[str, int]:
        """Each product's part of a cumulative refund; the remainder falls to the first line."""
        whole = self.total_minor
        shares = {
            product: (refunded_minor * total // whole if whole else 0)
            for product, (_, total) in self.lines.items()
        }
        shares[next(iter(shares))] += refunded_minor - sum(shares.values())
        return shares


@dataclass(slots=True)
class Oracle:
    """The model. ``surprises`` are answers that contradict it: each one is a fault somewhere."""

    threshold: int
    products: dict[str, Product] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    events: list[ExpectedEvent] = field(default_factory=list)
    sellers: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    selling: defaultdict[str, Selling] = field(default_factory=lambda: defaultdict(Selling))
    per_product: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    surprises: list[str] = field(default_factory=list)

    def observe(self, exchange: Exchange) -> tuple[ExpectedEvent, ...]:
        """Take one exchange in; the events it must have caused, in log order per subject.

        Raises NotModelled for a successful write of a kind the oracle does not know.
        """
        success = 200 <= exchange.status < 300  # noqa: PLR2004 - HTTP's own border
        if exchange.method in {"GET", "HEAD", "OPTIONS"} or not success or exchange.replayed:
            return ()
        before = len(self.events)
        parts = exchange.path.partition("?")[0].removeprefix("/api/v1").strip("/").split("/")
        self._command(exchange.method, parts)(exchange, parts)
        return tuple(self.events[before:])

    def _command(self, method: str, parts: list[str]) -> Callable[[Exchange, list[str]], None]:
        shape = [part if place % 2 == 0 else "*" for place, part in enumerate(parts)]
        command = {
            "POST products": self._create_product,
            "PATCH products/*": self._change_product,
            "PUT products/*": self._change_product,
            "DELETE products/*": self._delete_product,
            "POST products/*/stock-adjustments": self._adjust_stock,
            "PUT products/*/stock": self._set_stock,
            "POST orders": self._place_order,
            "POST orders/*/refunds": self._refund,
            **{f"POST orders/*/{action}": self._act for action in ACTIONS},
        }.get(f"{method} {'/'.join(shape)}")
        if command is None:
            raise NotModelled(f"{method} /{'/'.join(parts)}")
        return command

    # Products

    def _create_product(self, exchange: Exchange, parts: list[str]) -> None:
        request, answer = _bodies(exchange)
        texts = {name: request.get(name) for name in _TEXTS}
        texts |= {
            "currency": request.get("currency", "USD"),
            "status": request.get("status", "active"),
            "tags": list(request.get("tags", ())),
        }
        product = Product(
            id=answer["id"],
            seller_id=request.get("sellerId") or answer["sellerId"],
            texts=texts,
            price_minor=minor(request["price"], str(texts["currency"])),
            stock=request.get("stock", 0),
        )
        self.products[product.id] = product
        self._product_event("product.created", product)
        self._compare_product(exchange, product)

    def _change_product(self, exchange: Exchange, parts: list[str]) -> None:
        request, _ = _bodies(exchange)
        product = self.products[parts[1]]
        if exchange.method == "PUT":
            defaults = {"currency": "USD", "status": "active", "tags": ()}
            request = {name: defaults.get(name) for name in (*_TEXTS, "tags")} | dict(request)
        texts = product.texts | {name: request[name] for name in _TEXTS if name in request}
        if "tags" in request:
            texts["tags"] = list(request["tags"] or ())
        price_minor = product.price_minor
        if "price" in request:
            price_minor = minor(request["price"], texts["currency"])
        repriced = price_minor != product.price_minor
        if repriced or texts != product.texts:
            product.price_minor, product.texts = price_minor, texts
            product.version += 1
            kind = "product.price_changed" if repriced else "product.updated"
            self._product_event(kind, product)
        self._compare_product(exchange, product)

    def _delete_product(self, exchange: Exchange, parts: list[str]) -> None:
        product = self.products[parts[1]]
        product.version += 1
        product.deleted = True
        self._product_event("product.deleted", product)

    def _compare_product(self, exchange: Exchange, product: Product) -> None:
        self._compare(
            exchange,
            {
                "priceMinor": product.price_minor,
                "stock": product.stock,
                "version": product.version,
                "inventoryVersion": product.inventory_version,
                "sellerId": product.seller_id,
                **product.texts,
            },
        )

    # Stock

    def _adjust_stock(self, exchange: Exchange, parts: list[str]) -> None:
        request, _ = _bodies(exchange)
        product = self.products[parts[1]]
        self._move(product, request["delta"], "inventory.updated")
        self._compare_stock(exchange, product)

    def _set_stock(self, exchange: Exchange, parts: list[str]) -> None:
        request, _ = _bodies(exchange)
        product = self.products[parts[1]]
        if request["expectedQuantity"] != product.stock:
            self._surprise(exchange, f"expectedQuantity was not {product.stock}, yet accepted")
        if delta := request["quantity"] - product.stock:
            self._move(product, delta, "inventory.updated")
        self._compare_stock(exchange, product)

    def _compare_stock(self, exchange: Exchange, product: Product) -> None:
        expected = {"stock": product.stock, "inventoryVersion": product.inventory_version}
        self._compare(exchange, expected)

    def _move(self, product: Product, delta: int, event_type: str) -> None:
        """A change of stock, its event and the warning it may cause, right after it."""
        before, after = product.stock, product.stock + delta
        product.stock = after
        self._inventory_event(event_type, product)
        if after < 0:
            self.surprises.append(f"stock of {product.id} fell to {after}")
        if before > 0 >= after:
            self._inventory_event("product.out_of_stock", product)
        elif before > self.threshold >= after > 0:
            self._inventory_event("product.low_stock", product)

    # Orders

    def _place_order(self, exchange: Exchange, parts: list[str]) -> None:
        request, answer = _bodies(exchange)
        quantities: dict[str, int] = {}
        for item in request["items"]:
            product_id = item["productId"]
            quantities[product_id] = quantities.get(product_id, 0) + item["quantity"]
        bought = [self.products[product_id] for product_id in quantities]
        order = Order(
            id=answer["id"],
            seller_id=bought[0].seller_id,
            currency=bought[0].texts["currency"],
            lines={
                product.id: (quantities[product.id], quantities[product.id] * product.price_minor)
                for product in bought
            },
        )
        self.orders[order.id] = order
        self.selling[order.seller_id].reached[order.status] += 1
        self._order_event("order.created", order)
        for product in bought:
            self._move(product, -quantities[product.id], "inventory.reserved")
        self._compare_order(exchange, order)

    def _act(self, exchange: Exchange, parts: list[str]) -> None:
        order = self.orders[parts[1]]
        order.status, event_type = ACTIONS[parts[2]]
        order.version += 1
        selling = self.selling[order.seller_id]
        selling.reached[order.status] += 1
        if event_type == "order.paid":
            selling.paid_orders[order.currency] += 1
            selling.paid_minor[order.currency] += order.total_minor
        earned = {product: total for product, (_, total) in order.lines.items()}
        self._order_event(event_type, order, earned if event_type == "order.paid" else {})
        if event_type == "order.cancelled":
            self._give_back(order)
        self._compare_order(exchange, order)

    def _refund(self, exchange: Exchange, parts: list[str]) -> None:
        order = self.orders[parts[1]]
        left = order.total_minor - order.refunded_minor
        amount = (exchange.request or {}).get("amountMinor", left)
        steps = (order.refund_shares(order.refunded_minor + part) for part in (0, amount))
        changes = {
            product: before[product] - after[product]
            for before, after in pairwise(steps)
            for product in after
        }
        unshipped = order.status == "paid"
        order.refunded_minor += amount
        order.version += 1
        selling = self.selling[order.seller_id]
        selling.refunded_minor[order.currency] += amount
        if amount == left:
            order.status = "refunded"
            selling.reached[order.status] += 1
        self._order_event("order.refunded", order, changes)
        if amount == left and unshipped:
            self._give_back(order)
        self._compare_order(exchange, order)

    def _give_back(self, order: Order) -> None:
        for product_id, (quantity, _) in order.lines.items():
            self._move(self.products[product_id], quantity, "inventory.released")

    def _compare_order(self, exchange: Exchange, order: Order) -> None:
        self._compare(
            exchange,
            {
                "status": order.status,
                "sellerId": order.seller_id,
                "currency": order.currency,
                "totalMinor": order.total_minor,
                "refundedMinor": order.refunded_minor,
                "version": order.version,
            },
        )

    # Events

    def _product_event(self, event_type: str, product: Product) -> None:
        self._event(PRODUCTS, product, product.version, event_type)

    def _inventory_event(self, event_type: str, product: Product) -> None:
        product.inventory_version += 1
        self._event(INVENTORY, product, product.inventory_version, event_type)

    def _event(self, topic: str, product: Product, sequence: int, event_type: str) -> None:
        self.events.append(
            ExpectedEvent(topic, product.id, sequence, event_type, product.seller_id)
        )
        self.sellers[product.seller_id].count(event_type)
        self.per_product[product.id].count(event_type)

    def _order_event(
        self, event_type: str, order: Order, revenue: Mapping[str, int] | None = None
    ) -> None:
        self.events.append(
            ExpectedEvent(ORDERS, order.id, order.version, event_type, order.seller_id)
        )
        earned = revenue or {}
        self.sellers[order.seller_id].count(
            event_type,
            units=sum(quantity for quantity, _ in order.lines.values()),
            revenue_minor=sum(earned.values()),
            currency=order.currency,
        )
        for product_id, (quantity, _) in order.lines.items():
            self.per_product[product_id].count(
                event_type,
                units=quantity,
                revenue_minor=earned.get(product_id, 0),
                currency=order.currency,
            )

    # Answers

    def _compare(self, exchange: Exchange, expected: Mapping[str, Any]) -> None:
        answer = exchange.answer or {}
        for name, value in expected.items():
            if name not in answer or answer[name] != value:
                self._surprise(exchange, f"{name} is {answer.get(name)!r}, not {value!r}")

    def _surprise(self, exchange: Exchange, what: str) -> None:
        self.surprises.append(f"{exchange.method} {exchange.path}: {what}")


def minor(price: Decimal | int, currency: str) -> int:
    """An exact price in minor units. Raises ValueError when the currency has fewer digits."""
    scaled = Decimal(price).scaleb(EXPONENTS.get(currency, 2))
    if scaled != scaled.to_integral_value():
        msg = f"{price} has more digits than {currency}"
        raise ValueError(msg)
    return int(scaled)


def _bodies(exchange: Exchange) -> tuple[Json, Json]:
    return exchange.request or {}, exchange.answer or {}
