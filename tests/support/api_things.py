"""What the shop of `tests.support.api_model` consists of, and how it is shown."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

Json = dict[str, Any]

THRESHOLD: Final = 5
DIGITS: Final = {"USD": 2, "JPY": 0}


@dataclass(frozen=True, slots=True)
class Event:
    """What consumers see: the place in its subject's sequence and the data."""

    topic: str
    subject: str
    sequence: int
    type: str
    data: Json


@dataclass(slots=True)
class Product:
    """A product and its stock."""

    id: str
    seller: str
    details: Json
    stock: int
    at: datetime
    changed: datetime
    reserved: int = 0
    version: int = 1
    inventory_version: int = 0
    deleted: bool = False
    #: (delta, stock after it, reason, reference, order id, moment)
    movements: list[Json] = field(default_factory=list)

    @property
    def etag(self) -> str:
        return f'"v{self.version}.{self.inventory_version}"'

    def shown(self) -> Json:
        price, digits = Decimal(self.details["price"]), DIGITS[self.details["currency"]]
        return {
            **self.details,
            "price": price,
            "id": self.id,
            "priceMinor": int(price.scaleb(digits)),
            "stock": self.stock,
            "sellerId": self.seller,
            "version": self.version,
            "inventoryVersion": self.inventory_version,
            "createdAt": written(self.at),
            "updatedAt": written(self.changed),
        }

    def level(self) -> Json:
        return {
            "productId": self.id,
            "stock": self.stock,
            "reserved": self.reserved,
            "onHand": self.stock + self.reserved,
            "threshold": THRESHOLD,
            "inventoryVersion": self.inventory_version,
        }


@dataclass(slots=True)
class Reservation:
    """Units that a seller holds."""

    id: str
    product: Product
    quantity: int
    reference: str | None
    until: datetime
    active: bool = True

    def shown(self) -> Json:
        return {
            "id": self.id,
            "productId": self.product.id,
            "quantity": self.quantity,
            "reference": self.reference,
            "reservedUntil": written(self.until),
        }


@dataclass(slots=True)
class Order:
    """An order; ``items`` are the lines as shown, with the products they took from."""

    id: str
    seller: str
    customer: str | None
    currency: str
    items: list[Json]
    products: list[Product]
    at: datetime
    changed: datetime
    until: datetime | None
    status: str = "pending"
    cancel_reason: str | None = None
    refunded: int = 0
    version: int = 1
    history: list[Json] = field(default_factory=list)

    @property
    def etag(self) -> str:
        return f'"v{self.version}"'

    @property
    def total(self) -> int:
        return sum(item["totalMinor"] for item in self.items)

    def shown(self) -> Json:
        return {
            "id": self.id,
            "status": self.status,
            "customerId": self.customer,
            "sellerId": self.seller,
            "items": self.items,
            "subtotalMinor": self.total,
            "taxMinor": 0,
            "shippingMinor": 0,
            "total": Decimal(self.total).scaleb(-DIGITS[self.currency]),
            "totalMinor": self.total,
            "refundedMinor": self.refunded,
            "currency": self.currency,
            "reservedUntil": None if self.until is None else written(self.until),
            "cancelReason": self.cancel_reason,
            "version": self.version,
            "createdAt": written(self.at),
            "updatedAt": written(self.changed),
        }


def written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
