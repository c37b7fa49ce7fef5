"""What events carry: the REST representation of the thing that changed.

Field names are snake_case here and camelCase on the wire. A price is a JSON number written from a
decimal, beside its exact integer in minor units, which is what arithmetic uses.
"""

from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Version = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1)]
Timestamp = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$")]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
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
    price: Decimal
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
    unit_price: Decimal
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
    total: Decimal
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
    delta: int
    reason: str | None
    order_id: str | None
    threshold: int | None
    inventory_version: Version


Payload = Product | Order | OrderRefunded | Inventory
