"""Orders as stored and as shown."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from msgspec import structs
from sqlalchemy import BigInteger, Column, DateTime, Integer, Table, Text
from sqlalchemy.dialects import postgresql

from shopstream_api.db.metadata import metadata
from shopstream_api.money import from_minor
from shopstream_shared.clock import format_time
from shopstream_shared.events.payloads import Order, OrderItem, OrderRefunded, OrderStatus

CancelReason = Literal["requested", "expired"]
#: Why units came back: the reason of inventory.released.
ReleaseReason = Literal["requested", "expired", "refunded"]

orders: Final = Table(
    "orders",
    metadata,
    Column("id", postgresql.UUID, primary_key=True),
    Column("seller_id", Text, nullable=False),
    Column("customer_id", Text),
    Column("status", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("subtotal_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("shipping_minor", BigInteger, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("refunded_minor", BigInteger, nullable=False),
    Column("reserved_until", DateTime(timezone=True)),
    Column("cancel_reason", Text),
    Column("version", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

order_items: Final = Table(
    "order_items",
    metadata,
    Column("order_id", postgresql.UUID, primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("product_id", postgresql.UUID, nullable=False),
    Column("name", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price_minor", BigInteger, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
)

order_history: Final = Table(
    "order_history",
    metadata,
    Column("order_id", postgresql.UUID, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    #: What this step gave back; null in steps that are no refund.
    Column("refund_minor", BigInteger),
    Column("at", DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One line: name and price as they were when the order was placed."""

    product_id: UUID
    name: str
    quantity: int
    unit_price_minor: int

    @property
    def total_minor(self) -> int:
        return self.quantity * self.unit_price_minor


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order; ``items`` never change once it is placed."""

    id: UUID
    seller_id: str
    customer_id: str | None
    status: OrderStatus
    currency: str
    subtotal_minor: int
    tax_minor: int
    shipping_minor: int
    total_minor: int
    refunded_minor: int
    reserved_until: datetime | None
    cancel_reason: CancelReason | None
    version: int
    created_at: datetime
    updated_at: datetime
    items: tuple[ItemRow, ...] = ()

    @property
    def etag(self) -> str:
        return f'"v{self.version}"'

    def shown(self) -> Order:
        """The representation: REST body and event data alike."""
        held = self.reserved_until
        return Order(
            id=str(self.id),
            status=self.status,
            customer_id=self.customer_id,
            seller_id=self.seller_id,
            items=tuple(self._item(item) for item in self.items),
            subtotal_minor=self.subtotal_minor,
            tax_minor=self.tax_minor,
            shipping_minor=self.shipping_minor,
            total=from_minor(self.total_minor, self.currency),
            total_minor=self.total_minor,
            refunded_minor=self.refunded_minor,
            currency=self.currency,
            reserved_until=None if held is None else format_time(held),
            cancel_reason=self.cancel_reason,
            version=self.version,
            created_at=format_time(self.created_at),
            updated_at=format_time(self.updated_at),
        )

    def refunded(self, amount_minor: int) -> OrderRefunded:
        """The event data of a refund that gave back so much."""
        return OrderRefunded(**structs.asdict(self.shown()), refund_amount_minor=amount_minor)

    def _item(self, item: ItemRow) -> OrderItem:
        return OrderItem(
            product_id=str(item.product_id),
            name=item.name,
            quantity=item.quantity,
            unit_price=from_minor(item.unit_price_minor, self.currency),
            unit_price_minor=item.unit_price_minor,
            total_minor=item.total_minor,
        )


COLUMN_NAMES: Final = tuple(column.name for column in orders.columns)
