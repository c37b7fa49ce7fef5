"""Use cases of imports. Each runs inside the caller's transaction."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from shopstream_api.catalog.many import ROWS_A_BREATH
from shopstream_api.db.transaction import Transaction
from shopstream_api.errors import ShopError
from shopstream_api.imports.models import Counts, ImportRow, RowError
from shopstream_api.imports.records import Record
from shopstream_api.imports.repository import ImportRepository
from shopstream_api.imports.rows import Row, read_row
from shopstream_api.imports.upload import decode_slice
from shopstream_api.imports.upsert import upsert
from shopstream_api.principal import Principal
from shopstream_api.stock.service import StockService

#: Characters kept of what is wrong with one row.
DETAIL_LENGTH_MAX: Final = 1_000


async def accept(tx: Transaction, row: ImportRow) -> None:
    """Make an import known, whose slices are staged."""
    await ImportRepository(tx.connection).add(row, tx.now())


@dataclass(frozen=True, slots=True)
class WorkSlice:
    """``code_of`` names what is wrong with a row, as problems are named."""

    stock: StockService
    code_of: Callable[[ShopError], str]

    async def __call__(self, tx: Transaction, row: ImportRow) -> Counts | None:
        """Apply the next slice of a claimed import and move its counters.

        None: there was none left, and the import is done.
        """
        repository = ImportRepository(tx.connection)
        encoded = await repository.take_slice(row)
        if encoded is None:
            await repository.finish(row, "done", tx.now())
            return None
        tx.context = row.context
        records = decode_slice(encoded)
        rows, refused = await _read(row, records)
        outcome = await upsert(tx, rows, self.stock, row.id)
        refused |= outcome.refused
        counts = Counts(outcome.created, outcome.updated, outcome.unchanged, len(refused))
        await repository.add_errors(
            row.id,
            [
                RowError(number, self.code_of(error), _kept(error.detail))
                for number, error in sorted(refused.items())
            ],
        )
        await repository.advance(row.id, counts, tx.now())
        return counts


async def _read(
    row: ImportRow, records: Sequence[Record]
) -> tuple[list[Row], dict[int, ShopError]]:
    """The rows of a slice, and by its number what is wrong with each that cannot be read."""
    principal = Principal(row.seller_id)
    rows: list[Row] = []
    refused: dict[int, ShopError] = {}
    for number, record in enumerate(records, row.counts.read + 1):
        if number % ROWS_A_BREATH == 0:
            await asyncio.sleep(0)
        try:
            rows.append(read_row(number, record, row.header, principal))
        except ShopError as error:
            refused[number] = error
    return rows, refused


def _kept(detail: str) -> str:
    """A detail may name members as the file does: at any length, and with NUL in them."""
    return detail[:DETAIL_LENGTH_MAX].replace("\x00", "\ufffd")
