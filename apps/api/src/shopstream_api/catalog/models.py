"""The products table and its row, as all domains that touch stock share it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, Column, Computed, DateTime, Integer, Numeric, Table, Text
from sqlalchemy.dialects import postgresql

from shopstream_api.db.metadata import metadata
from shopstream_api.money import from_minor
from shopstream_shared.clock import format_time
from shopstream_shared.events.payloads import Product, ProductStatus

products: Final = Table(
    "products",
    metadata,
    Column("id", postgresql.UUID, primary_key=True),
    Column("seller_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("sku", Text),
    Column("category", Text),
    Column("tags", postgresql.ARRAY(Text), nullable=False),
    Column("price_minor", BigInteger, nullable=False),
    Column("price", Numeric, nullable=False),
    Column("currency", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("initial_stock", Integer, nullable=False),
    Column("stock", Integer, nullable=False),
    Column("reserved", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("inventory_version", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("deleted_at", DateTime(timezone=True)),
    Column(
        "search",
        postgresql.TSVECTOR,
        Computed("search_vector(name, sku, tags, category, description)", persisted=True),
        nullable=False,
    ),
)


@dataclass(frozen=True, slots=True)
class ProductRow:
    """A product as stored; ``reserved`` units are held by open orders and reservations."""

    id: UUID
    seller_id: str
    name: str
    description: str | None
    sku: str | None
    category: str | None
    tags: tuple[str, ...]
    price_minor: int
    currency: str
    status: ProductStatus
    stock: int
    reserved: int
    version: int
    inventory_version: int
    created_at: datetime
    updated_at: datetime

    @property
    def price(self) -> Decimal:
        return from_minor(self.price_minor, self.currency)

    @property
    def etag(self) -> str:
        return f'"v{self.version}.{self.inventory_version}"'

    def shown(self) -> Product:
        """The representation: REST body and event data alike."""
        return Product(
            id=str(self.id),
            name=self.name,
            description=self.description,
            sku=self.sku,
            category=self.category,
            tags=self.tags,
            price=self.price,
            price_minor=self.price_minor,
            currency=self.currency,
            stock=self.stock,
            seller_id=self.seller_id,
            status=self.status,
            version=self.version,
            inventory_version=self.inventory_version,
            created_at=format_time(self.created_at),
            updated_at=format_time(self.updated_at),
        )


ROW_COLUMNS: Final = (
    products.c.id,
    products.c.seller_id,
    products.c.name,
    products.c.description,
    products.c.sku,
    products.c.category,
    products.c.tags,
    products.c.price_minor,
    products.c.currency,
    products.c.status,
    products.c.stock,
    products.c.reserved,
    products.c.version,
    products.c.inventory_version,
    products.c.created_at,
    products.c.updated_at,
)
#: The same for statements that are written out, of products as ``p``.
ROW_NAMES: Final = ", ".join(f"p.{column.name}" for column in ROW_COLUMNS)
_TAGS: Final = ROW_COLUMNS.index(products.c.tags)


def row_of(found: Sequence[Any]) -> ProductRow:
    """Read a row selected by ROW_COLUMNS; further columns are ignored."""
    values = list(found[: len(ROW_COLUMNS)])
    values[_TAGS] = tuple(values[_TAGS])
    return ProductRow(*values)
