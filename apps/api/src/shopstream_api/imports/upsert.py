"""Apply a slice of a file to the catalogue, inside the caller's transaction.

Set by set: existing products are locked together, new ones inserted together. Rows of one sku are
applied in their order, so each set has a sku once and the rest wait for the next set. A sku that
another transaction takes between the look and the insert undoes the whole, to be done again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from uuid import UUID

import psycopg

from shopstream_api.catalog import batch, many, service
from shopstream_api.catalog.batch import Draft
from shopstream_api.catalog.many import ROWS_A_BREATH, SkuKey
from shopstream_api.catalog.models import ProductRow
from shopstream_api.db.transaction import Transaction
from shopstream_api.errors import ShopError
from shopstream_api.imports.prepare import Drafted, Slice, draft_of, drafted, units_of
from shopstream_api.imports.rows import Row
from shopstream_api.stock.service import StockService


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

    drafts: list[Draft] = field(default_factory=list)
    changed: list[ProductRow] = field(default_factory=list)
    levels: list[tuple[ProductRow, int]] = field(default_factory=list)


async def upsert(tx: Transaction, taken: Slice, stock: StockService, import_id: UUID) -> Outcome:
    """Create or replace the products of its rows; stock they name is set through the ledger.

    Raises psycopg.errors.SerializationFailure when another transaction has taken a sku meanwhile.
    """
    outcome = Outcome()
    rows: Sequence[Row] = taken.rows
    while rows:
        now, rows = _one_of_each(rows)
        found = await many.locked(tx.statements, list(now))
        if len(now) == len(taken.rows) and not found:
            await _create(tx, taken.new or await drafted(tx.another(), taken.rows), outcome)
        else:
            await _write(tx, await _plan(tx, now, found, outcome), stock, import_id)
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
            units = units_of(row, before)
        except ShopError as error:
            outcome.refused[row.number] = error.without_frames()
            continue
        if before is None:
            planned.drafts.append(draft_of(tx, row, units))
            outcome.created += 1
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


async def _create(tx: Transaction, new: Drafted, outcome: Outcome) -> None:
    """All rows are new products: one statement writes them with all that they leave behind."""
    if new.drafts:
        _require_free(await batch.create(tx.statements, new.drafts))
        tx.written(new.record)
    outcome.created += len(new.drafts)
    outcome.refused |= new.refused


async def _write(tx: Transaction, planned: _Set, stock: StockService, import_id: UUID) -> None:
    if planned.drafts:
        _require_free(await many.add(tx.statements, [draft.row for draft in planned.drafts]))
    if planned.changed:
        many.change(tx.statements, planned.changed)
    if planned.levels:
        stock.set_many(tx, planned.levels, str(import_id))


def _require_free(taken: AbstractSet[UUID]) -> None:
    """What the look has not found is there now: done again, the look finds it."""
    if taken:
        raise psycopg.errors.SerializationFailure("a sku was taken between look and insert")
