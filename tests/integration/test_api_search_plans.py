"""Lists and searches of a million products read by indexes, also by plans made for any value."""

from collections.abc import Iterator
from typing import Any, Final

import psycopg
import pytest
from tests.support.app import InProcess, in_process, migrated_database
from tests.support.components import LocalComponents
from tests.support.reads import rows_read, walk

from shopstream_api.catalog.filters import ProductFilter
from shopstream_api.paging import Paging, digest_of, page_of
from shopstream_stack.bench.seed import seed_products

#: Making the products takes some 13 s of the server's CPU.
pytestmark = pytest.mark.timeout(600)

PRODUCTS: Final = 1_000_000
#: So many are made; the others are their copies, at other times and prices.
ORIGINALS: Final = 10_000
COPIES: Final = PRODUCTS // ORIGINALS
LIMIT: Final = 20
#: psycopg prepares a statement it has run 5 times, the server then weighs a generic plan.
REQUESTS: Final = 8
ROWS_A_PAGE_MAX: Final = 8 * (LIMIT + 1)
#: Where the products wanted lie thinly in an index, the planner reads more of it: never more than
#: 1 in 10 of all.
ROWS_A_SEARCH_MAX: Final = PRODUCTS // 10

# A table of the copies takes the place of the one they are copied from: rows that pass checks,
# triggers and the generated column one by one take some times as long, and so do random ids.
_INDEXES: Final = """
SELECT c.relname, pg_get_indexdef(c.oid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = 'products'::regclass
"""
_COPY: Final = f"""
CREATE UNLOGGED TABLE copies AS
SELECT (left(id::text, -4) || to_hex(4096 + copy))::uuid AS id, seller_id, name, description,
       sku || '-' || copy AS sku, category, tags, price_minor + copy AS price_minor,
       price + copy * 0.01 AS price, currency, status, initial_stock, stock, reserved, version,
       inventory_version, created_at + copy * interval '3 days' AS created_at,
       updated_at + copy * interval '3 days' AS updated_at, deleted_at, search
FROM generate_series(1, {COPIES}) AS copy, products;
DROP TABLE products;
ALTER TABLE copies RENAME TO products;
SET maintenance_work_mem = '256MB';
"""


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    url = migrated_database(session_components)
    with psycopg.connect(url, autocommit=True) as connection:
        seed_products(connection, ORIGINALS)
        _multiply(connection)
    with in_process(
        session_components, database_url=url, checked=False, SHOPSTREAM_POOL_SIZE="1"
    ) as running:
        yield running


def _multiply(connection: "psycopg.Connection[Any]") -> None:
    indexes = connection.execute(_INDEXES.encode()).fetchall()
    connection.execute(_COPY.encode())
    for _, definition in indexes:
        connection.execute(definition.encode())
    connection.execute("VACUUM ANALYZE products")
    connection.execute("ANALYZE search_words")


def _sequential(api: InProcess) -> int:
    """How often the tables have been read from end to end."""
    ((scans,),) = api.query(
        "SELECT sum(seq_scan) FROM pg_stat_user_tables"
        " WHERE relname IN ('products', 'search_words')"
    )
    return int(scans)


def _read_by(api: InProcess, path: str) -> int:
    """Rows read a request; the tables are read by indexes only."""
    rows, scans = rows_read(api, "^products$"), _sequential(api)
    walk(api, path, REQUESTS)
    read = (rows_read(api, "^products$") - rows) // REQUESTS
    assert _sequential(api) == scans
    return read


@pytest.mark.parametrize(
    "path",
    [
        "/products",
        "/products?sellerId=seeded-7",
        "/products?sellerId=nobody",
        "/products?status=active",
        "/products?status=archived",
        "/products?category=travel",
        "/products?category=nothing",
        "/products?priceMin=5",
        "/products?updatedSince=2025-03-01T00:00:00Z",
    ],
)
def test_a_page_of_products_reads_little_more_than_it_shows(api: InProcess, path: str) -> None:
    assert _read_by(api, path) <= ROWS_A_PAGE_MAX


def test_the_last_page_reads_as_little_as_the_first(api: InProcess) -> None:
    rows = api.query("SELECT created_at, id FROM products ORDER BY created_at, id LIMIT 50")
    digest = digest_of(("products", ProductFilter()))
    page = page_of(rows[::-1], Paging(LIMIT, digest), lambda row: row)
    assert _read_by(api, f"/products?cursor={page.next_cursor}") <= ROWS_A_PAGE_MAX
    assert len(api.get(f"/products?cursor={page.next_cursor}").json()["data"]) == LIMIT


@pytest.mark.parametrize(
    "path",
    [
        "/products?priceMin=5&priceMax=5.05",
        "/products?priceMax=1.02",
        "/products?updatedSince=2025-05-20T00:00:00Z&status=draft",
        "/products?status=draft&category=music&priceMin=100&priceMax=101",
        "/products?sellerId=seeded-1&category=travel&status=draft",
        "/products?sellerId=seeded-0&status=archived",
        "/products?sellerId=seeded-900&status=draft",
        "/products?sellerId=nobody&status=archived",
        # A word of every product, a beginning of many, a typing error in a common word and one in a
        # rare, none, an article's number.
        "/products?q=sku",
        "/products?q=c",
        "/products?q=keybord",
        "/products?q=qukela",
        "/products?q=zzyzzx",
        "/products?q=SKU-00004711",
        "/products?q=wireless+keyboard",
        "/products?q=cotton&status=archived",
        "/products?q=lamp&sellerId=seeded-9",
        "/products?q=keyboard&priceMin=5&priceMax=6",
        "/products?q=oak&updatedSince=2025-05-20T00:00:00Z",
        "/products?q=cotton&category=nothing",
    ],
)
def test_a_narrowed_list_or_a_search_reads_a_small_part(api: InProcess, path: str) -> None:
    assert _read_by(api, path) <= ROWS_A_SEARCH_MAX
