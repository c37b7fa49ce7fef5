"""Use cases of imports. Each runs inside the caller's transaction."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from uuid import UUID

from shopstream_api.db.record import Record
from shopstream_api.db.transaction import Transaction
from shopstream_api.errors import ShopError
from shopstream_api.imports import prepare
from shopstream_api.imports.models import Counts, ImportRow, RowError
from shopstream_api.imports.prepare import Slice
from shopstream_api.imports.repository import ImportRepository
from shopstream_api.imports.upsert import upsert
from shopstream_api.stock.service import StockService

#: Characters kept of what is wrong with one row.
DETAIL_LENGTH_MAX: Final = 1_000


async def accept(tx: Transaction, row: ImportRow) -> None:
    """Make an import known, whose slices are staged."""
    await ImportRepository(await tx.connection()).add(row, tx.now())


class WorkSlice:
    """Works slices, one at a time. ``code_of`` names what is wrong with a row, as problems do.

    While the server writes the new products of one slice the next one is made ready. At most one is
    kept, of the import and after so many rows as its key says.
    """

    def __init__(self, stock: StockService, code_of: Callable[[ShopError], str]) -> None:
        self._stock = stock
        self._code_of = code_of
        self._ahead: dict[tuple[UUID, int], Slice] = {}

    async def __call__(self, tx: Transaction, row: ImportRow) -> Counts | None:
        """Apply the next slice of a claimed import and move its counters.

        None: there was none left, and the import is done.
        """
        repository = ImportRepository(await tx.connection())
        encoded = await repository.take_slice(row)
        if encoded is None:
            await repository.finish(row, "done", tx.now())
            return None
        tx.context = row.context
        before = row.counts.read
        taken = self._ahead.pop((row.id, before), None)
        self._ahead.clear()
        taken = taken or await prepare.read(encoded, row, before)
        after = before + taken.count
        following = None
        if 0 < row.counts.created == before - row.counts.failed:
            # Only new products so far: it pays to expect more of them.
            following = await repository.slice_at(row.id, after + 1)
        async with self._preparing(tx.another(), following, row, after):
            outcome = await upsert(tx, taken, self._stock, row.id)
        refused = taken.refused | outcome.refused
        counts = Counts(outcome.created, outcome.updated, outcome.unchanged, len(refused))
        # Asked for again: what the rows have left to be sent goes first.
        repository = ImportRepository(await tx.connection())
        await repository.add_errors(
            row.id,
            [
                RowError(number, self._code_of(error), _kept(error.detail))
                for number, error in sorted(refused.items())
            ],
        )
        await repository.advance(row.id, counts, tx.now())
        return counts

    @asynccontextmanager
    async def _preparing(
        self, record: Record, encoded: bytes | None, row: ImportRow, before: int
    ) -> AsyncIterator[None]:
        """Meanwhile make the next slice ready, if there is one; it is there when this is left."""
        if encoded is None:
            yield
            return
        task = asyncio.create_task(_prepared(record, encoded, row, before), name="next slice")
        try:
            yield
        except BaseException:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        [made] = await asyncio.gather(task, return_exceptions=True)
        # What is wrong with it is met again, and counted, when it is the next one's turn.
        if isinstance(made, Slice):
            self._ahead[row.id, before] = made


async def _prepared(record: Record, encoded: bytes, row: ImportRow, before: int) -> Slice:
    found = await prepare.read(encoded, row, before)
    return replace(found, new=await prepare.drafted(record, found.rows))


def _kept(detail: str) -> str:
    """A detail may name members as the file does: at any length, and with NUL in them."""
    return detail[:DETAIL_LENGTH_MAX].replace("\x00", "\ufffd")
