"""What events carry: the REST representation of the thing that changed.

Field names are snake_case here and camelCase on the wire. A price is a JSON number written from a
decimal, beside its exact integer in minor units, which is what arithmetic uses.
"""

from decimal import Decimal
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

#: What a 64-bit column and every consumer can hold.
INTEGER_MAX: Final = 2**63 - 1
#: 100 lines of 10,000 units at 10^12 minor units, in a currency without minor units.
PRICE_MAX: Final = 10**18

Count = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
Version = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
Delta = Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
Text = Annotated[str, Meta(min_length=1)]
# max_length, because `$` alone lets a final line break pass.
Timestamp = Annotated[
    str,
    Meta(
        pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z$",
        max_length=27,
    ),
]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$", max_length=3)]
# msgspec would also read a string, and cannot bound a decimal: `numbers_of` says what checks it.
Price = Annotated[
    Decimal, Meta(extra_json_schema={"type": "number", "minimum": 0, "maximum": PRICE_MAX})
]
_Number = Annotated[float, Meta(ge=0, le=PRICE_MAX)]
ProductStatus = Literal["draft", "active", "archived"]
OrderStatus = Literal[
    "pending", "confirmed", "paid", "shipped", "delivered", "cancelled", "refunded"
]


class Product(Struct, frozen=True, kw_only=True, rename="camel"):
    """A product as REST shows it. ``stock`` is what can be sold now."""

    id: Text
    name: Text
    description: str | None
    sku: str | None
    category: str | None
    tags: tuple[str, ...]
    price: Price
    price_minor: Count
    currency: Currency
    stock: Count
    seller_id: Text
    status: ProductStatus
    version: Version
    inventory_version: Count
    created_at: Timestamp
    updated_at: Timestamp


class OrderItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """One product of an order, with name and price as they were when it was placed."""

    product_id: Text
    name: Text
    quantity: Version
    unit_price: Price
    unit_price_minor: Count
    total_minor: Count


class Order(Struct, frozen=True, kw_only=True, rename="camel"):
    """An order as REST shows it."""

    id: Text
    status: OrderStatus
    customer_id: str | None
    seller_id: Text
    items: Annotated[tuple[OrderItem, ...], Meta(min_length=1)]
    subtotal_minor: Count
    tax_minor: Count
    shipping_minor: Count
    total: Price
    total_minor: Count
    refunded_minor: Count
    currency: Currency
    reserved_until: Timestamp | None
    cancel_reason: Literal["requested", "expired"] | None
    version: Version
    created_at: Timestamp
    updated_at: Timestamp


class OrderRefunded(Order, frozen=True, kw_only=True, rename="camel"):
    """The order after a refund, with the amount of this one step."""

    refund_amount_minor: Version


class Inventory(Struct, frozen=True, kw_only=True, rename="camel"):
    """A change of a product's stock; null where a field does not apply."""

    product_id: Text
    seller_id: Text
    name: Text
    stock: Count
    delta: Delta
    reason: str | None
    order_id: str | None
    threshold: Count | None
    inventory_version: Version


Payload = Product | Order | OrderRefunded | Inventory


class ProductNumbers(Struct, rename="camel"):
    """The prices of a product, as numbers."""

    price: _Number


class ItemNumbers(Struct, rename="camel"):
    """The prices of an order's line, as numbers."""

    unit_price: _Number


class OrderNumbers(Struct, rename="camel"):
    """The prices of an order, as numbers."""

    total: _Number
    items: list[ItemNumbers]


def numbers_of(payload: type[Payload]) -> type[ProductNumbers | OrderNumbers] | None:
    """The second look at a payload's prices: JSON numbers in range; None where it has none.

    A Decimal field also takes a string, "NaN" among them, which the schema forbids; read as
    float only to be checked, the exact value stays the Decimal's.
    """
    if issubclass(payload, Product):
        return ProductNumbers
    return OrderNumbers if issubclass(payload, Order) else None
