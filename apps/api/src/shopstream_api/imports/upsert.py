"""Apply rows of a file to the catalogue, inside the caller's transaction.

Set by set: existing products are locked together, new ones inserted together. Rows of one sku are
applied in their order, so each set has a sku once and the rest wait for the next set; so do rows
whose sku another transaction has taken between the look and the insert.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from msgspec import UnsetType

from shopstream_api.catalog import many, service
from shopstream_api.catalog.batch import Draft
from shopstream_api.catalog.many import SkuKey
from shopstream_api.catalog.models import ProductRow
from shopstream_api.catalog.schemas import NewProduct
from shopstream_api.db.transaction import Transaction
from shopstream_api.errors import ShopError
from shopstream_api.imports.rows import Row
from shopstream_api.principal import Principal
from shopstream_api.stock.service import StockService, require_room

#: Rows between two breaths: some milliseconds, so that requests are not held up.
ROWS_A_BREATH: Final = 20

#: The rows were read for the seller whose import it is.
_ANYONE: Final = Principal()


@dataclass(slots=True)
class Outcome:
    """What became of the rows; ``refused`` by the number of the row."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: dict[int, ShopError] = field(default_factory=dict)


@dataclass(slots=True)
class _Set:
    """What one set of rows comes to, before it is written."""

    drafts: list[tuple[Row, Draft]] = field(default_factory=list)
    changed: list[ProductRow] = field(default_factory=list)
    levels: list[tuple[ProductRow, int]] = field(default_factory=list)


async def upsert(
    tx: Transaction, rows: Sequence[Row], stock: StockService, import_id: UUID
) -> Outcome:
    """Create or replace the products of these rows; stock they name is set through the ledger."""
    outcome = Outcome()
    while rows:
        now, later = _one_of_each(rows)
        found = await many.locked(await tx.driver(), list(now))
        planned = await _plan(tx, now, found, outcome)
        taken = await _write(tx, planned, stock, import_id)
        again = [row for row, draft in planned.drafts if draft.row.id in taken]
        outcome.created += len(planned.drafts) - len(again)
        rows = [*again, *later]
    return outcome


def _one_of_each(rows: Sequence[Row]) -> tuple[dict[SkuKey, Row], list[Row]]:
    now: dict[SkuKey, Row] = {}
    later = [row for row in rows if now.setdefault((row.seller_id, row.sku), row) is not row]
    return now, later


async def _plan(
    tx: Transaction,
    rows: Mapping[SkuKey, Row],
    found: Mapping[SkuKey, ProductRow],
    outcome: Outcome,
) -> _Set:
    planned = _Set()
    for n, (key, row) in enumerate(rows.items(), 1):
        if n % ROWS_A_BREATH == 0:
            await asyncio.sleep(0)
        before = found.get(key)
        try:
            units = _units(row, before)
        except ShopError as error:
            outcome.refused[row.number] = error
            continue
        if before is None:
            new = NewProduct(row.details, units, row.seller_id)
            planned.drafts.append((row, service.draft(tx, _ANYONE, new)))
            continue
        after = service.revise(tx, before, replace(before, **service.columns(row.details)))
        if after is not before:
            planned.changed.append(after)
        if units != before.stock:
            planned.levels.append((after, units))
        if after is before and units == before.stock:
            outcome.unchanged += 1
        else:
            outcome.updated += 1
    return planned


async def _write(tx: Transaction, planned: _Set, stock: StockService, import_id: UUID) -> set[UUID]:
    """Returns the ids of those drafts whose sku was taken meanwhile."""
    connection = await tx.driver()
    taken: set[UUID] = set()
    if planned.drafts:
        taken = await many.add(connection, [draft.row for _, draft in planned.drafts])
        tx.retract({str(product_id) for product_id in taken})
    if planned.changed:
        await many.change(connection, planned.changed)
    if planned.levels:
        await stock.set_many(tx, planned.levels, str(import_id))
    return taken


def _units(row: Row, before: ProductRow | None) -> int:
    """The stock that the product is to have. Raises ValidationFailed when there is no room."""
    if isinstance(row.stock, UnsetType):
        return 0 if before is None else before.stock
    require_room(before, row.stock, "/stock")
    return row.stock
