"""The tables of the outbox; the relay's SQL is in `relay/postgres.py`."""

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Integer, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import BYTEA, UUID

from shopstream_api.db.metadata import metadata

event_audit: Final = Table(
    "event_audit",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("subject", UUID, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("event_id", UUID, nullable=False),
    Column("type", Text, nullable=False),
    Column("seller_id", Text, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("amount_minor", BigInteger),
    Column("currency", Text),
    Column("sha256", BYTEA, nullable=False),
)

stream_position: Final = Table(
    "stream_position",
    metadata,
    Column("shard", SmallInteger, primary_key=True),
    Column("stream_id", Text),
    Column("updated_at", DateTime(timezone=True)),
)
