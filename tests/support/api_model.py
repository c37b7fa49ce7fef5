"""The shop as plain Python: what each request must answer and leave behind, by the contract alone.

No database, and no code shared with the API; time is told. Ids are the server's to choose, so a
command that makes something is given the id that the server answered.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from tests.support.api_things import (
    DIGITS,
    THRESHOLD,
    Event,
    Json,
    Order,
    Product,
    Reservation,
    written,
)

HOLD: Final = timedelta(minutes=15)
STOCK_MAX: Final = 10**9
NULLABLE: Final = ("description", "sku", "category")
REPLACED: Final = ("name", *NULLABLE, "tags", "price", "currency", "status")
DEFAULTS: Final[Json] = {
    "description": None,
    "sku": None,
    "category": None,
    "tags": [],
    "currency": "USD",
    "status": "active",
}
ALLOWED: Final = {
    "pending": ["confirmed", "cancelled"],
    "confirmed": ["paid", "cancelled"],
    "paid": ["shipped", "refunded"],
    "shipped": ["delivered", "refunded"],
    "delivered": ["refunded"],
    "cancelled": [],
    "refunded": [],
}
ACTIONS: Final = {
    "confirm": "confirmed",
    "pay": "paid",
    "ship": "shipped",
    "deliver": "delivered",
    "cancel": "cancelled",
}


class Refused(Exception):
    """A request that changes nothing; ``members`` are the problem's own."""

    def __init__(self, status: int, code: str, **members: Any) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.members = members


class Shop:
    """Everything there is, and everything that was published."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.products: dict[str, Product] = {}
        self.orders: dict[str, Order] = {}
        self.reservations: dict[str, Reservation] = {}
        self.events: list[Event] = []

    # Products.

    def create(self, caller: str | None, body: Json, new_id: str) -> Product:
        details = _whole(body)
        _require_price(details)
        seller: str = body.get("sellerId", caller or "")
        if caller not in {None, seller}:
            raise Refused(403, "forbidden")
        self._require_sku(seller, details["sku"])
        now = self._now()
        product = Product(new_id, seller, details, body.get("stock", 0), now, now)
        self.products[new_id] = product
        self._emit_product("product.created", product)
        return product

    def create_many(
        self, caller: str | None, items: Sequence[Json], ids: Sequence[str], *, atomic: bool
    ) -> list[Json]:
        """A result a row: the product, or its refusal; ``ids`` are those of the created rows."""
        before = len(self.events)
        fresh = [*ids, *(f"none {index}" for index in range(len(items)))]
        results: list[Json] = []
        for index, item in enumerate(items):
            try:
                product = self.create(caller, item, fresh[len(self.events) - before])
            except Refused as refused:
                results.append({"index": index, "status": refused.status, "code": refused.code})
            else:
                results.append({"index": index, "status": 201, "product": product.shown()})
        codes = {row["code"] for row in results if "code" in row}
        if atomic and codes:
            for event in self.events[before:]:
                del self.products[event.subject]
            del self.events[before:]
            invalid = codes & {"validation_failed", "forbidden"}
            raise Refused(422, "validation_failed" if invalid else "rows_refused")
        return results

    def patch(self, caller: str | None, product_id: str, body: Json, match: str | None) -> Product:
        if "stock" in body:
            raise Refused(422, "validation_failed")
        product = self._own(caller, product_id, match)
        _require_seller(caller, product, body)
        changes = {name: value for name, value in body.items() if name != "sellerId"}
        return self._change(product, {**product.details, **changes})

    def put(self, caller: str | None, product_id: str, body: Json, match: str | None) -> Product:
        details = _whole(body)
        _require_price(details)
        product = self._own(caller, product_id, match)
        _require_seller(caller, product, body)
        if body.get("stock", product.stock) != product.stock:
            raise Refused(422, "validation_failed")
        return self._change(product, details)

    def delete(self, caller: str | None, product_id: str, match: str | None) -> None:
        product = self._own(caller, product_id, match)
        before = product.shown()
        product.deleted = True
        product.version += 1
        product.changed = self._after(product.changed)
        self._emit("shop.products", "product.deleted", product.id, product.version, before)

    def _change(self, product: Product, details: Json) -> Product:
        _require_price(details)
        if details == product.details:
            return product
        self._require_sku(product.seller, details["sku"], product)
        price = ("price", "currency")
        same = all(details[name] == product.details[name] for name in price)
        product.details = details
        product.version += 1
        product.changed = self._after(product.changed)
        self._emit_product("product.updated" if same else "product.price_changed", product)
        return product

    # Stock.

    def adjust(self, caller: str | None, product_id: str, delta: int, reason: str) -> Json:
        product = self._own(caller, product_id)
        after = product.stock + delta
        if after < 0:
            raise _short([(product, -delta)])
        if delta > 0 and after + product.reserved > STOCK_MAX:
            raise Refused(422, "validation_failed")
        self._move(product, delta, "inventory.updated", reason)
        return self._moved(product, delta, reason)

    def set_stock(self, caller: str | None, product_id: str, wanted: int, expected: int) -> Json:
        product = self._own(caller, product_id)
        if product.stock != expected:
            raise Refused(412, "version_mismatch")
        delta = wanted - product.stock
        if delta > 0 and wanted + product.reserved > STOCK_MAX:
            raise Refused(422, "validation_failed")
        if delta:
            self._move(product, delta, "inventory.updated", None)
        return self._moved(product, delta, None)

    def reserve(
        self, caller: str | None, product_id: str, quantity: int, reference: str | None, new_id: str
    ) -> Reservation:
        product = self._own(caller, product_id)
        if quantity > product.stock:
            raise _short([(product, quantity)])
        held = Reservation(new_id, product, quantity, reference, self._now() + HOLD)
        self.reservations[new_id] = held
        self._move(product, -quantity, "inventory.reserved", held=quantity, reference=reference)
        return held

    def release(self, caller: str | None, reservation_id: str, reason: str = "requested") -> None:
        held = self.reservations.get(reservation_id)
        if held is None or not held.active or caller not in {None, held.product.seller}:
            raise Refused(404, "not_found")
        held.active = False
        self._move(
            held.product,
            held.quantity,
            "inventory.released",
            reason,
            held=-held.quantity,
            reference=held.reference,
        )

    # Orders.

    def place(self, lines: Sequence[tuple[str, int]], customer: str | None, new_id: str) -> Order:
        units: dict[str, int] = {}
        for product_id, quantity in lines:
            units[product_id] = units.get(product_id, 0) + quantity
        wanted = {pid: self.products.get(pid) for pid in units}
        products = [p for p in wanted.values() if p is not None and _orderable(p)]
        if len(products) < len(units):
            raise Refused(
                422,
                "product_not_available",
                errors=[
                    f"/items/{line}/productId"
                    for line, (pid, _) in enumerate(lines)
                    if not _orderable(wanted[pid])
                ],
            )
        for code, name in (("mixed_sellers", "sellerId"), ("mixed_currencies", "currency")):
            if len({product.shown()[name] for product in products}) > 1:
                raise Refused(422, code)
        short = [(product, units[product.id]) for product in products]
        short = [(product, count) for product, count in short if count > product.stock]
        if short:
            raise _short(short)
        return self._place(products, units, customer, new_id)

    def _place(
        self, products: list[Product], units: Mapping[str, int], customer: str | None, new_id: str
    ) -> Order:
        now = self._now()
        items = [_item(product, units[product.id]) for product in products]
        seller, currency = products[0].seller, products[0].details["currency"]
        order = Order(new_id, seller, customer, currency, items, products, now, now, now + HOLD)
        self.orders[new_id] = order
        self._remember(order, "order.created")
        for product in products:
            count = units[product.id]
            self._move(product, -count, "inventory.reserved", held=count, order=order)
        return order

    def act(self, caller: str | None, order_id: str, verb: str) -> Order:
        wanted = ACTIONS[verb]
        order = self._order(caller, order_id, wanted)
        if wanted == "cancelled":
            self._cancel(order, "requested")
            return order
        order.until = order.until if wanted == "confirmed" else None
        self._step(order, wanted)
        if wanted == "paid":
            for product, item in zip(order.products, order.items, strict=True):
                product.reserved -= item["quantity"]
        return order

    def refund(
        self, caller: str | None, order_id: str, amount: int | None, reason: str | None
    ) -> Order:
        order = self._order(caller, order_id, "refunded")
        left = order.total - order.refunded
        step = left if amount is None else amount
        if not 1 <= step <= left:
            raise Refused(422, "refund_too_large", errors=["/amountMinor"])
        before = order.status
        order.refunded += step
        self._step(order, "refunded" if step == left else before, reason, step)
        if order.status == "refunded" and before == "paid":
            self._give_back(order, "refunded", held=False)
        return order

    def expire(self) -> int:
        """End everything that is held too long, longest first; returns how many."""
        now = self._now()
        held: list[tuple[datetime, Order | Reservation]] = [
            (order.until, order) for order in self.orders.values() if order.until is not None
        ]
        held += [(held.until, held) for held in self.reservations.values() if held.active]
        over = [thing for until, thing in sorted(held, key=lambda entry: entry[0]) if until <= now]
        for thing in over:
            if isinstance(thing, Order):
                self._cancel(thing, "expired")
            else:
                self.release(None, thing.id, "expired")
        return len(over)

    def _cancel(self, order: Order, reason: str) -> None:
        order.until = None
        order.cancel_reason = reason
        self._step(order, "cancelled", reason)
        self._give_back(order, reason, held=True)

    def _give_back(self, order: Order, reason: str, *, held: bool) -> None:
        for product, item in zip(order.products, order.items, strict=True):
            count = item["quantity"]
            self._move(
                product,
                count,
                "inventory.released",
                reason,
                held=-count if held else 0,
                order=order,
            )

    # Who may see and change what, and what a change leaves behind.

    def product(self, product_id: str) -> Product:
        product = self.products.get(product_id)
        if product is None or product.deleted:
            raise Refused(404, "not_found")
        return product

    def _own(self, caller: str | None, product_id: str, match: str | None = None) -> Product:
        product = self.product(product_id)
        if caller not in {None, product.seller}:
            raise Refused(404, "not_found")
        if match not in {None, "*"} and _version(match) != f"v{product.version}":
            raise Refused(412, "version_mismatch")
        return product

    def _order(self, caller: str | None, order_id: str, wanted: str) -> Order:
        order = self.orders.get(order_id)
        if order is None or caller not in {None, order.seller}:
            raise Refused(404, "not_found")
        allowed = ALLOWED[order.status]
        if wanted not in allowed:
            extra = {"from": order.status, "to": wanted, "allowed": allowed}
            raise Refused(409, "illegal_transition", **extra)
        return order

    def _require_sku(self, seller: str, sku: str | None, but: Product | None = None) -> None:
        taken = (
            product.details["sku"]
            for product in self.products.values()
            if product.seller == seller and not product.deleted and product is not but
        )
        if sku is not None and sku in taken:
            raise Refused(409, "duplicate_sku")

    def _after(self, earlier: datetime) -> datetime:
        """A thing's time never goes back, whatever the clock does."""
        return max(self._now(), earlier)

    def _step(
        self, order: Order, status: str, reason: str | None = None, refund: int | None = None
    ) -> None:
        order.status = status
        order.version += 1
        order.changed = self._after(order.changed)
        self._remember(
            order, f"order.{status}" if refund is None else "order.refunded", reason, refund
        )

    def _remember(
        self, order: Order, kind: str, reason: str | None = None, refund: int | None = None
    ) -> None:
        at = written(order.changed)
        step = {"version": order.version, "status": order.status, "reason": reason, "at": at}
        order.history.append(step)
        amount = {} if refund is None else {"refundAmountMinor": refund}
        data = {**order.shown(), **amount}
        self._emit("shop.orders", kind, order.id, order.version, data)

    def _move(
        self,
        product: Product,
        delta: int,
        kind: str,
        reason: str | None = None,
        *,
        held: int = 0,
        order: Order | None = None,
        reference: str | None = None,
    ) -> None:
        before = product.stock
        product.stock += delta
        product.reserved += held
        product.changed = self._after(product.changed)
        cause = {
            "delta": delta,
            "stock": product.stock,
            "reason": reason,
            "orderId": None if order is None else order.id,
        }
        product.movements.append(
            {**cause, "reference": reference, "createdAt": written(product.changed)}
        )
        self._emit_inventory(kind, product, cause, None)
        if before > 0 == product.stock:
            self._emit_inventory("product.out_of_stock", product, cause, 0)
        elif before > THRESHOLD >= product.stock:
            self._emit_inventory("product.low_stock", product, cause, THRESHOLD)

    def _moved(self, product: Product, delta: int, reason: str | None) -> Json:
        return {
            "productId": product.id,
            "stock": product.stock,
            "delta": delta,
            "reason": reason,
            "inventoryVersion": product.inventory_version,
        }

    def _emit_product(self, kind: str, product: Product) -> None:
        self._emit("shop.products", kind, product.id, product.version, product.shown())

    def _emit_inventory(
        self, kind: str, product: Product, cause: Json, threshold: int | None
    ) -> None:
        product.inventory_version += 1
        data = {
            **cause,
            "productId": product.id,
            "sellerId": product.seller,
            "name": product.details["name"],
            "threshold": threshold,
            "inventoryVersion": product.inventory_version,
        }
        self._emit("shop.inventory", kind, product.id, product.inventory_version, data)

    def _emit(self, topic: str, kind: str, subject: str, sequence: int, data: Json) -> None:
        self.events.append(Event(topic, subject, sequence, kind, data))


def _whole(body: Json) -> Json:
    return {name: body.get(name, DEFAULTS.get(name)) for name in REPLACED}


def _orderable(product: Product | None) -> bool:
    return product is not None and not product.deleted and product.details["status"] == "active"


def _item(product: Product, quantity: int) -> Json:
    shown = product.shown()
    return {
        "productId": product.id,
        "name": shown["name"],
        "quantity": quantity,
        "unitPrice": shown["price"],
        "unitPriceMinor": shown["priceMinor"],
        "totalMinor": shown["priceMinor"] * quantity,
    }


def _short(wanted: Sequence[tuple[Product, int]]) -> Refused:
    items = [
        {"productId": product.id, "requested": count, "available": product.stock}
        for product, count in wanted
    ]
    return Refused(409, "insufficient_stock", items=items)


def _require_price(details: Json) -> None:
    price = Decimal(details["price"])
    if price != round(price, DIGITS[details["currency"]]):
        raise Refused(422, "validation_failed")


def _require_seller(caller: str | None, product: Product, body: Json) -> None:
    sent = body.get("sellerId", product.seller)
    if caller is not None and sent != caller:
        raise Refused(403, "forbidden")
    if sent != product.seller:
        raise Refused(422, "validation_failed")


def _version(match: str | None) -> str:
    return (match or "").strip('"').partition(".")[0]
