"""The ledger of stock and the reservations on it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Column, DateTime, Integer, Table, Text
from sqlalchemy.dialects import postgresql

from shopstream_api.db.metadata import metadata

stock_movements: Final = Table(
    "stock_movements",
    metadata,
    Column("id", postgresql.UUID, nullable=False),
    Column("product_id", postgresql.UUID, primary_key=True),
    Column("inventory_version", Integer, primary_key=True),
    Column("seller_id", Text, nullable=False),
    Column("delta", Integer, nullable=False),
    Column("stock", Integer, nullable=False),
    Column("cause", Text, nullable=False),
    Column("reason", Text),
    Column("reference", Text),
    Column("order_id", postgresql.UUID),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

reservations: Final = Table(
    "reservations",
    metadata,
    Column("id", postgresql.UUID, primary_key=True),
    Column("product_id", postgresql.UUID, nullable=False),
    Column("order_id", postgresql.UUID),
    Column("quantity", Integer, nullable=False),
    Column("reference", Text),
    Column("status", Text, nullable=False),
    Column("reserved_until", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

low_stock: Final = Table(
    "low_stock",
    metadata,
    Column("product_id", postgresql.UUID, primary_key=True),
    Column("seller_id", Text, nullable=False),
    Column("stock", Integer, primary_key=True),
    Column("created_at", DateTime(timezone=True), primary_key=True),
)


@dataclass(frozen=True, slots=True)
class Movement:
    """One line of the ledger: stock as it was after this change, and why it changed."""

    id: UUID
    product_id: UUID
    inventory_version: int
    seller_id: str
    delta: int
    stock: int
    cause: str
    reason: str | None
    reference: str | None
    order_id: UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Reservation:
    """Units held, for an order or (without one) by a seller, until it is ended or too late."""

    id: UUID
    product_id: UUID
    order_id: UUID | None
    quantity: int
    reserved_until: datetime
    created_at: datetime
    status: str = "active"
    reference: str | None = None
