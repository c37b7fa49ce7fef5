"""SQL of the low-stock list.

The table `low_stock` follows the products by triggers: those with up to LEVELS_MAX units. An index
on the products' own stock would make each sale rewrite every index of the product.
"""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Select, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.catalog.models import ROW_COLUMNS, ProductRow, products, row_of
from shopstream_api.outbox.position import READ_POSITION, one_id
from shopstream_api.paging import ROWS, Page, Paging, Shape, keyset, page_of
from shopstream_api.stock.models import low_stock

#: The bound in the triggers.
LEVELS_MAX: Final = 100


async def low_stock_page(
    connection: AsyncConnection, threshold: int, sellers: Collection[str], paging: Paging
) -> tuple[Page[ProductRow], str | None]:
    """One page of products at or below the threshold, newest first, of all of these sellers.

    Also returns the stream position of the same snapshot.
    """
    chosen = _few if threshold <= LEVELS_MAX else _most
    shape = paging.shape
    rows = chosen(threshold, sellers, shape).subquery()
    statement = select(rows, READ_POSITION.c.stream_id).select_from(
        READ_POSITION.outerjoin(rows, true())
    )
    ordered = shape.outer_order(statement, rows.c.created_at, rows.c.id)
    found = (await connection.execute(ordered, paging.values())).all()
    items = [row_of(row) for row in found if row[0] is not None]
    page = page_of(items, paging, lambda row: (row.created_at, row.id))
    return page, one_id(found[0][-1]) if found else None


def _few(threshold: int, sellers: Collection[str], shape: Shape) -> "Select[Any]":
    """Level by level: within one the index has the order of the list, and a page of each will do.

    So a page costs the same wherever it lies and however many products are low.
    """
    low = low_stock.c
    levels = func.generate_series(0, threshold).table_valued("stock").render_derived()
    level = select(low.product_id, low.created_at).where(
        low.stock == levels.c.stock, *(low.seller_id == seller for seller in sellers)
    )
    rows = keyset(level, shape, low.created_at, low.product_id).lateral()
    found = select(rows).select_from(levels).join(rows, true())
    page = shape.outer_order(found, rows.c.created_at, rows.c.product_id)
    ids = page.limit(ROWS).subquery()
    return select(*ROW_COLUMNS).join(ids, ids.c.product_id == products.c.id)


def _most(threshold: int, sellers: Collection[str], shape: Shape) -> "Select[Any]":
    """With a high threshold most products are low: a walk by time meets a page of them soon."""
    live = select(*ROW_COLUMNS).where(
        products.c.deleted_at.is_(None),
        products.c.stock <= threshold,
        *(products.c.seller_id == seller for seller in sellers),
    )
    return keyset(live, shape, products.c.created_at, products.c.id)
