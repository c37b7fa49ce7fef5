"""Many products without the API: made inside PostgreSQL, the same ones every time.

They look like a shop's: a few common words and many rare ones, a few large sellers and many small
ones, prices from cents to thousands. They have no events, audit rows or movements: what counts
those must leave them out (`SELLER_PREFIX`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql

from shopstream_stack.bench import seed_words

#: The seller of every seeded product begins so.
SELLER_PREFIX: Final = "seeded-"
#: One statement each: its sort and its trigger's rows stay in memory.
CHUNK_ROWS: Final = 50_000
# Distinct words come from coined brands; the rest of the text repeats some two hundred.
_LISTS: Final = ("adjectives", "materials", "nouns", "colours", "categories", "syllables")

# `u` is a share of 1 drawn from the row's number and a lane; its square prefers a list's beginning.
# Four products share a moment, as the rows of a bulk request do. Ids are UUIDv7 of that moment.
_INSERT: Final = """
WITH drawn AS MATERIALIZED (
    SELECT n,
        timestamptz '2025-01-01 00:00:00Z' + (n / 4) * interval '40 seconds' AS at,
        array(
            SELECT (hashint8extended(n, lane) & 1048575) / 1048576.0::float8
            FROM generate_series(1, 17) AS lane
        ) AS u
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
), worded AS MATERIALIZED (
    SELECT n, at, u,
        (%(adjectives)s::text[])[1 + floor(u[1] * u[1] * cardinality(%(adjectives)s::text[]))]
            AS adjective,
        (%(materials)s::text[])[1 + floor(u[2] * u[2] * cardinality(%(materials)s::text[]))]
            AS material,
        (%(nouns)s::text[])[1 + floor(u[3] * u[3] * cardinality(%(nouns)s::text[]))] AS noun,
        (%(colours)s::text[])[1 + floor(u[4] * u[4] * cardinality(%(colours)s::text[]))] AS colour,
        (%(nouns)s::text[])[1 + floor(u[5] * cardinality(%(nouns)s::text[]))] AS other,
        (%(categories)s::text[])[1 + floor(u[6] * u[6] * cardinality(%(categories)s::text[]))]
            AS category,
        (%(syllables)s::text[])[1 + floor(u[7] * cardinality(%(syllables)s::text[]))]
            || (%(syllables)s::text[])[1 + floor(u[8] * cardinality(%(syllables)s::text[]))]
            || (%(syllables)s::text[])[1 + floor(u[9] * cardinality(%(syllables)s::text[]))]
            AS brand,
        CASE WHEN u[10] < 0.8 THEN 'USD' WHEN u[10] < 0.95 THEN 'EUR' ELSE 'JPY' END AS currency,
        floor(100 * power(10, 3.5 * u[11]))::bigint AS price_minor,
        CASE WHEN u[12] < 0.05 THEN 0 ELSE floor(500 * u[12])::integer END AS stock
    FROM drawn
)
INSERT INTO products (
    id, seller_id, name, description, sku, category, tags, price_minor, price, currency, status,
    initial_stock, stock, reserved, version, inventory_version, created_at, updated_at
)
SELECT
    (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
        || '7' || lpad(to_hex(n & 4095), 3, '0')
        || '8' || lpad(to_hex(hashint8extended(n, 0) & 1152921504606846975), 15, '0'))::uuid,
    %(seller_prefix)s || floor(u[13] * u[13] * 1000)::integer,
    initcap(concat_ws(' ', brand, adjective, material, noun)),
    CASE WHEN u[14] < 0.8 THEN
        concat_ws(' ', 'A', adjective, noun, 'of', material, 'in', colour || ',', 'goes with any',
                  other, 'by', initcap(brand) || '.')
    END,
    'SKU-' || lpad(n::text, 8, '0'),
    CASE WHEN u[15] < 0.95 THEN category END,
    CASE WHEN u[16] < 0.5 THEN ARRAY[]::text[] WHEN u[16] < 0.8 THEN ARRAY[colour]
         ELSE ARRAY[colour, material] END,
    price_minor,
    CASE currency WHEN 'JPY' THEN price_minor ELSE price_minor * 0.01 END,
    currency,
    CASE WHEN u[17] < 0.9 THEN 'active' WHEN u[17] < 0.96 THEN 'draft' ELSE 'archived' END,
    stock, stock, 0, 1, 0, at, at
FROM worded ORDER BY n
"""
_PLAIN_INDEXES: Final = """
SELECT c.relname, pg_get_indexdef(i.indexrelid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = 'products'::regclass
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
ORDER BY c.relname
"""


def seed_products(connection: psycopg.Connection[Any], count: int, *, first: int = 0) -> None:
    """Insert the products numbered ``first`` to ``first + count - 1``, then vacuum and analyse.

    A higher number is a newer product; none of them may be there yet.
    The connection must be in autocommit mode: all rows come in one transaction of this function's
    own, and VACUUM takes none. Triggers fire, once a chunk. Raises psycopg.Error.
    """
    lists = {name: getattr(seed_words, name.upper()).split() for name in _LISTS}
    with connection.transaction(), _without_indexes(connection):
        for begin in range(first, first + count, CHUNK_ROWS):
            last = min(begin + CHUNK_ROWS, first + count) - 1
            bounds = {"first": begin, "last": last, "seller_prefix": SELLER_PREFIX}
            connection.execute(_INSERT, {**lists, **bounds})
    # All tables: triggers have filled others too.
    connection.execute("VACUUM ANALYZE")


@contextmanager
def _without_indexes(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """An index built at the end, by a sort, costs a fraction of one kept up row by row."""
    indexes = connection.execute(_PLAIN_INDEXES).fetchall()
    for name, _ in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    yield
    connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
    for _, definition in indexes:
        connection.execute(definition.encode())
