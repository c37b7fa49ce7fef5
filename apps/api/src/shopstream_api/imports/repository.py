"""SQL of imports. A slice is claimed with its import and deleted with its effects (ADR 0011)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, exists, insert, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.db import arrays
from shopstream_api.imports.models import (
    Counts,
    ImportRow,
    RowError,
    Status,
    import_errors,
    import_slices,
    imports,
)
from shopstream_api.principal import RequestContext

#: Removed at most this many at a time, so that a sweep is never a long transaction.
SWEEP_ROWS_MAX: Final = 1_000

_COLUMNS: Final = imports.c
_SHOWN: Final = select(
    _COLUMNS.id,
    _COLUMNS.seller_id,
    _COLUMNS.status,
    _COLUMNS.media_type,
    _COLUMNS.header,
    _COLUMNS.request_id,
    _COLUMNS.correlation_id,
    _COLUMNS.traceparent,
    _COLUMNS.rows_created,
    _COLUMNS.rows_updated,
    _COLUMNS.rows_unchanged,
    _COLUMNS.rows_failed,
)
_READ: Final = (
    _COLUMNS.rows_created + _COLUMNS.rows_updated + _COLUMNS.rows_unchanged + _COLUMNS.rows_failed
)
_NEXT: Final = (
    _SHOWN.where(_COLUMNS.status == "running")
    .order_by(_COLUMNS.updated_at, _COLUMNS.id)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_ADD_ERRORS: Final = """
INSERT INTO import_errors (import_id, row, code, detail)
SELECT %(import_id)s, * FROM unnest(%(rows)s, %(codes)s, %(details)s)
"""
# A plan made while the tables were empty reads all of them, and would be kept while they grow.
_PLAN_ANEW: Final = text("SET LOCAL plan_cache_mode = force_custom_plan")


class ImportRepository:
    """Imports on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, row: ImportRow, at: datetime) -> None:
        """Make an import known, whose slices are staged."""
        await self._connection.execute(
            insert(imports).values(
                id=row.id,
                seller_id=row.seller_id,
                status=row.status,
                media_type=row.media_type,
                header=None if row.header is None else list(row.header),
                rows_created=0,
                rows_updated=0,
                rows_unchanged=0,
                rows_failed=0,
                request_id=row.context.request_id,
                correlation_id=row.context.correlation_id,
                traceparent=row.context.traceparent,
                created_at=at,
                updated_at=at,
            )
        )

    async def shown(self, import_id: UUID) -> ImportRow | None:
        """The import as it stands."""
        found = (await self._connection.execute(_SHOWN.where(_COLUMNS.id == import_id))).first()
        return None if found is None else _row_of(found)

    async def claimed(self) -> ImportRow | None:
        """The running import that has waited longest, held until the transaction ends.

        None when all that run are held by others, or none runs.
        """
        await self._connection.execute(_PLAN_ANEW)
        found = (await self._connection.execute(_NEXT)).first()
        return None if found is None else _row_of(found)

    async def take_slice(self, row: ImportRow) -> bytes | None:
        """Remove the first slice that is not worked yet; None when all are."""
        slices = import_slices.c
        found = await self._connection.execute(
            delete(import_slices)
            .where(slices.import_id == row.id, slices.first_row == row.counts.read + 1)
            .returning(slices.records)
        )
        records: bytes | None = found.scalar_one_or_none()
        return records

    async def slice_at(self, import_id: UUID, first_row: int) -> bytes | None:
        """The slice that begins with this row; it stays."""
        slices = import_slices.c
        found = await self._connection.execute(
            select(slices.records).where(
                slices.import_id == import_id, slices.first_row == first_row
            )
        )
        records: bytes | None = found.scalar_one_or_none()
        return records

    async def advance(self, import_id: UUID, by: Counts, at: datetime) -> None:
        """Add to the counters."""
        await self._connection.execute(
            update(imports)
            .where(_COLUMNS.id == import_id)
            .values(
                rows_created=_COLUMNS.rows_created + by.created,
                rows_updated=_COLUMNS.rows_updated + by.updated,
                rows_unchanged=_COLUMNS.rows_unchanged + by.unchanged,
                rows_failed=_COLUMNS.rows_failed + by.failed,
                updated_at=at,
            )
        )

    async def finish(self, row: ImportRow, status: Status, at: datetime) -> None:
        """End an import that runs, unless another process has brought it further than ``row``."""
        await self._connection.execute(
            update(imports)
            .where(
                _COLUMNS.id == row.id,
                _COLUMNS.status == "running",
                literal(row.counts.read) == _READ,
            )
            .values(status=status, updated_at=at)
        )

    async def add_errors(self, import_id: UUID, errors: Sequence[RowError]) -> None:
        """Keep why rows were not applied."""
        if errors:
            await self._connection.exec_driver_sql(
                _ADD_ERRORS,
                {
                    "import_id": import_id,
                    "rows": arrays.bigints(error.row for error in errors),
                    "codes": arrays.texts(error.code for error in errors),
                    "details": arrays.texts(error.detail for error in errors),
                },
            )

    async def errors(self, import_id: UUID, after: int, limit: int) -> list[RowError]:
        """The next rows that were not applied, in their order."""
        kept = import_errors.c
        found = await self._connection.execute(
            select(kept.row, kept.code, kept.detail)
            .where(kept.import_id == import_id, kept.row > after)
            .order_by(kept.row)
            .limit(limit)
        )
        return [RowError(*row) for row in found]

    async def discard(self, import_id: UUID) -> None:
        """Remove what is staged of an import."""
        await self._connection.execute(
            delete(import_slices).where(import_slices.c.import_id == import_id)
        )

    async def sweep_slices(self, before: datetime) -> int:
        """Remove old slices whose import never came to be or has ended, up to SWEEP_ROWS_MAX."""
        slices = import_slices.c
        running = exists().where(_COLUMNS.id == slices.import_id, _COLUMNS.status == "running")
        old = (
            select(slices.import_id, slices.first_row)
            .where(slices.staged_at <= before, ~running)
            .limit(SWEEP_ROWS_MAX)
            .subquery()
        )
        result = await self._connection.execute(
            delete(import_slices).where(
                slices.import_id == old.c.import_id, slices.first_row == old.c.first_row
            )
        )
        return result.rowcount

    async def sweep_ended(self, before: datetime) -> int:
        """Forget imports that ended before, with their errors, up to SWEEP_ROWS_MAX rows."""
        kept = import_errors.c
        ended = (_COLUMNS.status != "running", _COLUMNS.updated_at <= before)
        old = (
            select(kept.import_id, kept.row)
            .join(imports, _COLUMNS.id == kept.import_id)
            .where(*ended)
            .limit(SWEEP_ROWS_MAX)
            .subquery()
        )
        errors = await self._connection.execute(
            delete(import_errors).where(kept.import_id == old.c.import_id, kept.row == old.c.row)
        )
        if errors.rowcount:
            return errors.rowcount
        bare = select(_COLUMNS.id).where(*ended).limit(SWEEP_ROWS_MAX)
        result = await self._connection.execute(
            delete(imports).where(_COLUMNS.id.in_(bare.scalar_subquery()))
        )
        return result.rowcount


def _row_of(found: Sequence[Any]) -> ImportRow:
    return ImportRow(
        id=found[0],
        seller_id=found[1],
        status=found[2],
        media_type=found[3],
        header=None if found[4] is None else tuple(found[4]),
        context=RequestContext(found[5], found[6], found[7]),
        counts=Counts(found[8], found[9], found[10], found[11]),
    )
