"""What can be made of a slice without the database, so also while the one before it is written."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import UnsetType

from shopstream_api.catalog import service
from shopstream_api.catalog.batch import Draft
from shopstream_api.catalog.many import ROWS_A_BREATH
from shopstream_api.catalog.models import ProductRow
from shopstream_api.catalog.schemas import NewProduct
from shopstream_api.db.record import Record
from shopstream_api.errors import ShopError
from shopstream_api.imports.models import ImportRow
from shopstream_api.imports.rows import Row, read_row
from shopstream_api.imports.upload import decode_slice
from shopstream_api.principal import Principal
from shopstream_api.stock.service import require_room

#: The rows were read for the seller whose import it is.
_ANYONE: Final = Principal()


@dataclass(frozen=True, slots=True)
class Drafted:
    """Rows as new products, and by its number what is wrong with each that cannot be one."""

    record: Record
    drafts: Sequence[Draft]
    refused: dict[int, ShopError]


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice as read: ``count`` records are its ``rows`` and those that were refused.

    ``new`` was made ahead, in case that all rows are new products.
    """

    count: int
    rows: Sequence[Row]
    refused: dict[int, ShopError]
    new: Drafted | None = None


async def read(encoded: bytes, row: ImportRow, before: int) -> Slice:
    """The slice of an import that comes after so many of its records."""
    records = decode_slice(encoded)
    principal = Principal(row.seller_id)
    rows: list[Row] = []
    refused: dict[int, ShopError] = {}
    for number, record in enumerate(records, before + 1):
        if number % ROWS_A_BREATH == 0:
            await asyncio.sleep(0)
        try:
            rows.append(read_row(number, record, row.header, principal))
        except ShopError as error:
            refused[number] = error.without_frames()
    return Slice(len(records), rows, refused)


async def drafted(record: Record, rows: Sequence[Row]) -> Drafted:
    """All rows as new products, with what they leave behind gathered in ``record``."""
    drafts: list[Draft] = []
    refused: dict[int, ShopError] = {}
    for n, row in enumerate(rows, 1):
        if n % ROWS_A_BREATH == 0:
            await asyncio.sleep(0)
        try:
            drafts.append(draft_of(record, row, units_of(row, None)))
        except ShopError as error:
            refused[row.number] = error.without_frames()
    return Drafted(record, drafts, refused)


def draft_of(record: Record, row: Row, units: int) -> Draft:
    """The row as a new product of so many units."""
    return service.draft(record, _ANYONE, NewProduct(row.details, units, row.seller_id))


def units_of(row: Row, before: ProductRow | None) -> int:
    """The stock that the product is to have. Raises ValidationFailed when there is no room."""
    if isinstance(row.stock, UnsetType):
        return 0 if before is None else before.stock
    require_room(before, row.stock, "/stock")
    return row.stock
