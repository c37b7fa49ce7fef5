"""Imports as stored, and the slices they wait in."""

from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Table, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import BYTEA

from shopstream_api.db.metadata import metadata
from shopstream_api.principal import RequestContext

Status = Literal["running", "done", "failed"]
NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"

imports: Final = Table(
    "imports",
    metadata,
    Column("id", postgresql.UUID, primary_key=True),
    Column("seller_id", Text),
    Column("status", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("header", postgresql.ARRAY(Text)),
    Column("rows_created", BigInteger, nullable=False),
    Column("rows_updated", BigInteger, nullable=False),
    Column("rows_unchanged", BigInteger, nullable=False),
    Column("rows_failed", BigInteger, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("correlation_id", Text),
    Column("traceparent", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

import_slices: Final = Table(
    "import_slices",
    metadata,
    Column("import_id", postgresql.UUID, primary_key=True),
    Column("first_row", BigInteger, primary_key=True),
    Column("records", BYTEA, nullable=False),
    Column("staged_at", DateTime(timezone=True), nullable=False),
)

import_errors: Final = Table(
    "import_errors",
    metadata,
    Column("import_id", postgresql.UUID, primary_key=True),
    Column("row", BigInteger, primary_key=True),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by what became of them."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0

    @property
    def read(self) -> int:
        return self.created + self.updated + self.unchanged + self.failed


@dataclass(frozen=True, slots=True)
class ImportRow:
    """An import; ``counts`` are those of the slices worked so far."""

    id: UUID
    seller_id: str | None
    status: Status
    media_type: str
    header: tuple[str, ...] | None
    context: RequestContext
    counts: Counts = Counts()

    def shown(self) -> dict[str, object]:
        """The representation: all rows read are in one of the four counts."""
        return {
            "id": str(self.id),
            "status": self.status,
            "rowsRead": self.counts.read,
            "rowsCreated": self.counts.created,
            "rowsUpdated": self.counts.updated,
            "rowsUnchanged": self.counts.unchanged,
            "rowsFailed": self.counts.failed,
        }


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row was not applied; rows count from 1, the first data row."""

    row: int
    code: str
    detail: str
