"""The low-stock list and the expiry worker read what they show or end, however much there is."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import pytest
from tests.support.app import InProcess, expired, in_process, later, migrated_database
from tests.support.components import LocalComponents
from tests.support.reads import fill, rows_read, walk

from shopstream_shared.clock import ManualClock

PRODUCTS: Final = 9_000
SELLERS: Final = 30
THRESHOLD: Final = 5
#: The oldest third is sold out or nearly so, which is what a shop looks like after some years.
OLD: Final = PRODUCTS // 3
START: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMIT: Final = 20
#: psycopg prepares a statement it has run 5 times, the server then weighs a generic plan.
REQUESTS: Final = 14
#: A page of each level from the table of low stock, its products, and some to spare.
ROWS_A_REQUEST_MAX: Final = (THRESHOLD + 4) * (LIMIT + 1)

_SEED: Final = f"""
CREATE TEMP TABLE seed AS
SELECT n, gen_random_uuid() AS id, timestamptz '2026-01-01 00:00:00Z' + n * interval '1 s' AS at,
       CASE WHEN n <= {OLD} THEN n % (2 * {THRESHOLD}) ELSE 50 + n % 100 END AS stock
FROM generate_series(1, {PRODUCTS}) AS n;
INSERT INTO products (id, seller_id, name, tags, price_minor, price, currency, status,
                      initial_stock, stock, reserved, version, inventory_version, created_at,
                      updated_at)
SELECT id, 's' || n % {SELLERS}, 'x', '{{}}', 5, 0.05, 'USD', 'active', stock + 1, stock, 1, 1, 0,
       at, at FROM seed;
-- One is overdue at the start of the test, and a further one each minute.
INSERT INTO reservations (id, product_id, quantity, status, reserved_until, created_at)
SELECT gen_random_uuid(), id, 1, 'active',
       timestamptz '{START.isoformat()}' + (n - 1) * interval '1 min', at FROM seed;
"""


@pytest.fixture(scope="module")
def app(session_components: LocalComponents) -> Iterator[InProcess]:
    url = migrated_database(session_components)
    fill(url, _SEED, vacuumed="products, low_stock, reservations")
    with in_process(
        session_components,
        database_url=url,
        clock=ManualClock(START),
        checked=False,
        SHOPSTREAM_POOL_SIZE="1",
        LOW_STOCK_THRESHOLD=str(THRESHOLD),
    ) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "all_of_it"),
    [
        ("/inventory/low-stock", (THRESHOLD + 1) * OLD // (2 * THRESHOLD)),
        ("/inventory/low-stock?sellerId=s3", OLD // SELLERS),
        ("/inventory/low-stock?sellerId=s9", 0),
        ("/inventory/low-stock?sellerId=nobody", 0),
    ],
)
def test_a_page_of_low_stock_reads_no_more_than_a_page_of_each_level(
    app: InProcess, path: str, all_of_it: int
) -> None:
    before = rows_read(app, "^(products|low_stock)$")
    rows = walk(app, path, REQUESTS)
    assert rows_read(app, "^(products|low_stock)$") - before <= REQUESTS * ROWS_A_REQUEST_MAX
    assert len(rows) == min(all_of_it, (REQUESTS - 1) * LIMIT)
    ids = [row["productId"] for row in rows]
    assert len(set(ids)) == len(ids)
    assert all(row["stock"] <= THRESHOLD for row in rows)


def test_a_sweep_reads_what_is_overdue_and_its_products(app: InProcess) -> None:
    assert expired(app) == 1
    before = rows_read(app, "^(products|reservations|low_stock)$")
    for _ in range(REQUESTS):
        assert expired(app) == 0
    # Nothing is overdue: the first that will be is looked at.
    idle = rows_read(app, "^(products|reservations|low_stock)$") - before
    assert idle <= REQUESTS * 2
    later(app, 60 * REQUESTS)
    assert expired(app) == REQUESTS
    ended = rows_read(app, "^(products|reservations|low_stock)$") - before - idle
    # The hold as it is found, claimed and ended, its product locked and changed, and its level.
    assert ended <= REQUESTS * 8


def test_a_change_of_stock_writes_to_no_index_of_the_product(app: InProcess) -> None:
    """An index that names a column of it would make each sale write to every index."""
    assert (
        app.query(
            "SELECT DISTINCT i.indexrelid::regclass::text, a.attname FROM pg_index i"
            " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam"
            " JOIN pg_depend d ON d.objid = i.indexrelid AND d.refobjid = i.indrelid"
            " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid"
            " WHERE i.indrelid = 'products'::regclass AND am.amname <> 'brin'"
            " AND a.attname IN ('stock', 'reserved', 'inventory_version', 'updated_at')"
        )
        == []
    )
