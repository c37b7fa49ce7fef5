"""The table of answered keys."""

from typing import Final

from sqlalchemy import Column, DateTime, Integer, Table
from sqlalchemy.dialects.postgresql import BYTEA, JSONB

from shopstream_api.db.metadata import metadata

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("id", BYTEA, primary_key=True),
    Column("fingerprint", BYTEA, nullable=False),
    Column("status", Integer, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", BYTEA, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
