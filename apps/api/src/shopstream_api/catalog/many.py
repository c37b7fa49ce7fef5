"""Many products in one statement each, for commands that record what they did themselves.

Bound by the caller to `batch.ROWS_MAX` rows.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from shopstream_api.catalog.batch import INSERT_NEW, NEW_NAMES, NEW_PRODUCTS, details, new_products
from shopstream_api.catalog.models import ROW_NAMES, ProductRow, row_of
from shopstream_api.db import arrays
from shopstream_api.db.pipeline import Pipeline
from shopstream_api.db.wire import Statement, Statements

#: Rows between two breaths: some milliseconds, so that requests are not held up.
ROWS_A_BREATH: Final = 20

#: A product as sellers name it: their id and its sku.
SkuKey = tuple[str, str]

_ADD: Final = Statement(
    "products_add",
    f"""
WITH i AS (
    SELECT * FROM unnest({NEW_PRODUCTS}) WITH ORDINALITY AS t ({NEW_NAMES}, n)
), p AS ({INSERT_NEW}
)
SELECT id FROM i WHERE id NOT IN (SELECT id FROM p)
""",  # noqa: S608 - put together from constants
)
_CHANGE: Final = Statement(
    "products_change",
    """
UPDATE products AS p
SET name = v.name, description = v.description, sku = v.sku, category = v.category,
    tags = v.tags::text[], price_minor = v.price_minor, price = v.price::numeric,
    currency = v.currency, status = v.status, version = v.version, updated_at = v.at
FROM unnest(
    %(id)s, %(name)s, %(description)s, %(sku)s, %(category)s, %(tags)s, %(price_minor)s,
    %(price)s, %(currency)s, %(status)s, %(version)s, %(at)s
) AS v (
    id, name, description, sku, category, tags, price_minor, price, currency, status, version, at
)
WHERE p.id = v.id
""",
)
# Sorted by id, as all who lock several products do, so that none waits in a ring.
_LOCKED: Final = Statement(
    "products_locked_by_sku",
    f"""
SELECT {ROW_NAMES}
FROM unnest(%(seller_id)s, %(sku)s) AS k (seller_id, sku)
JOIN products AS p ON p.seller_id = k.seller_id AND p.sku = k.sku
    AND p.sku IS NOT NULL AND p.deleted_at IS NULL
ORDER BY p.id FOR UPDATE OF p
""",  # noqa: S608 - put together from constants
)


async def add(statements: Statements, rows: Sequence[ProductRow]) -> set[UUID]:
    """Insert all whose sku is free; returns the ids of those whose sku is taken."""
    return {found[0] for found in await statements.run(_ADD, new_products(rows))}


def change(statements: Pipeline, rows: Sequence[ProductRow]) -> None:
    """Store details, version and time of locked products; no sku may be another than before."""
    statements.add(_CHANGE, _changed(rows))


async def change_sku(statements: Statements, row: ProductRow) -> None:
    """The same of one whose sku may be another. Raises psycopg.errors.UniqueViolation."""
    await statements.run(_CHANGE, _changed([row]))


def _changed(rows: Sequence[ProductRow]) -> dict[str, arrays.Array]:
    return details(rows) | {
        "id": arrays.uuids(row.id for row in rows),
        "version": arrays.integers(row.version for row in rows),
        "at": arrays.moments(row.updated_at for row in rows),
    }


async def locked(statements: Statements, keys: Sequence[SkuKey]) -> dict[SkuKey, ProductRow]:
    """Those of the products that are there and not deleted, locked in the order of their ids."""
    values = {
        "seller_id": arrays.texts(seller for seller, _ in keys),
        "sku": arrays.texts(sku for _, sku in keys),
    }
    rows = [row_of(found) for found in await statements.run(_LOCKED, values)]
    return {(row.seller_id, row.sku or ""): row for row in rows}
