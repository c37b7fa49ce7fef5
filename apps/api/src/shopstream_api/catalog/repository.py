"""SQL of the catalog."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import psycopg
from sqlalchemy import Select, bindparam, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.catalog import many
from shopstream_api.catalog.errors import DuplicateSku
from shopstream_api.catalog.filters import LIVE, SHAPES_MAX, ProductFilter, conditions
from shopstream_api.catalog.models import ROW_COLUMNS, ROW_NAMES, ProductRow, products, row_of
from shopstream_api.db import arrays
from shopstream_api.db.pipeline import Pipeline
from shopstream_api.db.wire import Statement, Statements
from shopstream_api.outbox.position import READ_POSITION, READ_POSITION_SQL, one_id
from shopstream_api.paging import Page, Paging, Shape, keyset, page_of

_SKU_INDEX: Final = "products_seller_id_sku_key"

_POSITION: Final = READ_POSITION.c.stream_id

_LOCKED: Final = Statement(
    "product_locked",
    f"""
SELECT {ROW_NAMES} FROM products p WHERE p.id = (%(ids)s)[1] AND p.deleted_at IS NULL FOR UPDATE
""",  # noqa: S608 - put together from constants
)
_DELETE: Final = Statement(
    "product_delete",
    """
UPDATE products
SET deleted_at = (%(at)s)[1], updated_at = (%(at)s)[1], version = (%(versions)s)[1]
WHERE id = (%(ids)s)[1]
""",
)
# Protocol rule 29: rows and position in one statement are of one snapshot. The position's row is
# always there, so an answer without rows has a position too.
_SHOWN: Final = select(*ROW_COLUMNS, _POSITION).select_from(
    READ_POSITION.outerjoin(products, (products.c.id == bindparam("id_")) & LIVE)
)
# The same for many, by the driver's own means: the left join keeps the position's row there.
_SHOWN_TOGETHER: Final = Statement(
    "products_shown",
    f"""
SELECT {ROW_NAMES}, position.stream_id
FROM {READ_POSITION_SQL} LEFT JOIN products p ON p.id = ANY(%(ids)s) AND p.deleted_at IS NULL
""",  # noqa: S608 - put together from constants
)


class ProductRepository:
    """One product in a command's transaction."""

    def __init__(self, statements: Pipeline) -> None:
        self._statements = statements

    async def add(self, row: ProductRow) -> None:
        """Raises DuplicateSku."""
        with _sku_taken():
            taken = await many.add(self._statements, [row])
        if taken:
            raise DuplicateSku

    async def locked(self, product_id: UUID) -> ProductRow | None:
        """The product, locked until the transaction ends; None when there is none."""
        found = await self._statements.run(_LOCKED, {"ids": arrays.uuids([product_id])})
        return row_of(found[0]) if found else None

    async def change(self, before: ProductRow, after: ProductRow) -> None:
        """Store details, version and time of the locked product. Raises DuplicateSku."""
        if after.sku == before.sku:
            many.change(self._statements, [after])
            return
        with _sku_taken():
            await many.change_sku(self._statements, after)

    def delete(self, row: ProductRow, version: int, at: datetime) -> None:
        """Mark the locked product as deleted, by this version at this time."""
        self._statements.add(
            _DELETE,
            {
                "ids": arrays.uuids([row.id]),
                "versions": arrays.integers([version]),
                "at": arrays.moments([at]),
            },
        )


class ProductReader:
    """Products as they are shown, on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def shown(self, product_id: UUID) -> tuple[ProductRow | None, str | None]:
        """The product and the stream position of the same snapshot."""
        found = (await self._connection.execute(_SHOWN, {"id_": product_id})).first()
        if found is None:
            return None, None
        return (None if found[0] is None else row_of(found)), one_id(found[-1])

    async def page(
        self, wanted: ProductFilter, paging: Paging
    ) -> tuple[Page[ProductRow], str | None]:
        """One page, newest first, and the stream position of the same snapshot."""
        values = wanted.values()
        statement = _listed(tuple(values), paging.shape)
        found = (await self._connection.execute(statement, values | paging.values())).all()
        position = one_id(found[0][-1]) if found else None
        items = [row_of(row) for row in found if row[0] is not None]
        return page_of(items, paging, lambda row: (row.created_at, row.id)), position


@lru_cache(SHAPES_MAX)
def _listed(narrowed: tuple[str, ...], shape: Shape) -> "Select[Any]":
    """A page of products, so narrowed; made once, for that takes longer than to find its rows."""
    listed = select(*ROW_COLUMNS).where(*conditions(narrowed))
    rows = keyset(listed, shape, products.c.created_at, products.c.id).subquery()
    statement = select(rows, _POSITION).select_from(READ_POSITION.outerjoin(rows, true()))
    return shape.outer_order(statement, rows.c.created_at, rows.c.id)


async def shown_together(
    statements: Statements, ids: Iterable[UUID]
) -> tuple[dict[UUID, ProductRow], str | None]:
    """Those of the products that there are, and the stream position of the same snapshot."""
    found = await statements.run(_SHOWN_TOGETHER, {"ids": arrays.uuids(ids)})
    position = one_id(found[0][-1]) if found else None
    return {row[0]: row_of(row) for row in found if row[0] is not None}, position


@contextmanager
def _sku_taken() -> Iterator[None]:
    """Raises DuplicateSku for the server's word for it."""
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name != _SKU_INDEX:
            raise
        raise DuplicateSku from error
