"""One row a command that changed something; `outbox/writer.py` writes them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Column, DateTime, Table, Text
from sqlalchemy.dialects import postgresql

from shopstream_api.db.metadata import metadata
from shopstream_shared.clock import format_time

audit_log: Final = Table(
    "audit_log",
    metadata,
    Column("id", postgresql.UUID, primary_key=True),
    Column("action", Text, nullable=False),
    Column("entity_type", Text, nullable=False),
    Column("entity_id", postgresql.UUID, nullable=False),
    Column("seller_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A step and the request that asked for it."""

    id: UUID
    action: str
    entity_type: str
    entity_id: UUID
    seller_id: str
    request_id: str
    at: datetime

    def shown(self) -> dict[str, object]:
        """The representation in the list."""
        return {
            "id": str(self.id),
            "action": self.action,
            "entityType": self.entity_type,
            "entityId": str(self.entity_id),
            "sellerId": self.seller_id,
            "requestId": self.request_id,
            "at": format_time(self.at),
        }
