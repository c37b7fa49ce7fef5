"""Lists of orders, of the audit and of the ledger read as much as they show, however much there is.

Measured by the rows that the server has read (`tests.support.reads`).
"""

from collections.abc import Iterator
from typing import Final

import pytest
from tests.support.app import InProcess, in_process, migrated_database
from tests.support.components import LocalComponents
from tests.support.reads import fill, rows_read, walk

ROWS: Final = 30_000
SELLERS: Final = 250
CUSTOMERS: Final = 1_000
#: Few orders have this status, all of one seller; the others share the rest.
RARE: Final = "refunded"
RARE_EVERY: Final = 5_000
#: Has every other order, all of them paid.
BIG: Final = "big"
PRODUCT: Final = "0192f5c0-7a10-7c3e-9a44-0b5f6a1d2e01"
LIMIT: Final = 20
#: psycopg prepares a statement it has run 5 times, the server then weighs a generic plan.
REQUESTS: Final = 14
#: A row more than the page and the head of each partition for the merge. Where one row in a few is
#: wanted the planner may walk by time and pass over the others: some times as many, never all.
ROWS_A_REQUEST_MAX: Final = 8 * (LIMIT + 1)

# Orders over all the months that have partitions; ids are of version 7, in the order of time.
_SEED: Final = f"""
CREATE TEMP TABLE seed AS
SELECT n, at, CAST(lpad(to_hex(CAST(extract(epoch FROM at) * 1000 AS bigint)), 12, '0')
                   || '7' || lpad(to_hex(n % 4096), 3, '0') || '8' || lpad(to_hex(n), 15, '0')
              AS uuid) AS id,
       CASE WHEN n % 2 = 0 THEN '{BIG}' ELSE 's' || n % {SELLERS} END AS seller,
       'c' || n % {CUSTOMERS} AS customer,
       CASE WHEN n % {RARE_EVERY} = 9 THEN '{RARE}' WHEN n % 2 = 0 THEN 'paid'
            ELSE (ARRAY['pending', 'paid', 'shipped', 'cancelled'])[1 + n / 2 % 4] END AS status
FROM (SELECT n, date_trunc('month', now()) + n * interval '3 months' / {ROWS} AS at
      FROM generate_series(1, {ROWS}) AS n) AS numbered;
INSERT INTO orders (id, seller_id, customer_id, status, currency, subtotal_minor, tax_minor,
                    shipping_minor, total_minor, refunded_minor, version, created_at, updated_at)
SELECT id, seller, customer, status, 'USD', 5, 0, 0, 5, 0, 1, at, at FROM seed;
INSERT INTO order_items (order_id, line, product_id, name, quantity, unit_price_minor, total_minor)
SELECT id, 0, '{PRODUCT}', 'x', 1, 5, 5 FROM seed;
INSERT INTO order_history (order_id, version, status, at) SELECT id, 1, status, at FROM seed;
INSERT INTO audit_log (id, action, entity_type, entity_id, seller_id, request_id, at)
SELECT id, 'order.created', 'order', id, seller, 'r', at FROM seed;
INSERT INTO stock_movements (id, product_id, inventory_version, seller_id, delta, stock, cause,
                             created_at)
SELECT id, '{PRODUCT}', n, seller, 0, 5, 'inventory.updated', at FROM seed;
INSERT INTO products (id, seller_id, name, tags, price_minor, price, currency, status,
                      initial_stock, stock, reserved, version, inventory_version, created_at,
                      updated_at)
VALUES ('{PRODUCT}', 's1', 'x', '{{}}', 5, 0.05, 'USD', 'active', 5, 5, 0, 1, {ROWS}, now(),
        now());
"""
_FILLED: Final = "orders, order_items, order_history, audit_log, stock_movements"


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    url = migrated_database(session_components)
    fill(url, _SEED, vacuumed=_FILLED)
    with in_process(
        session_components, database_url=url, checked=False, SHOPSTREAM_POOL_SIZE="1"
    ) as running:
        yield running


@pytest.mark.parametrize(
    "path",
    [
        "/orders",
        "/orders?sellerId=s7",
        "/orders?customerId=c7",
        "/orders?status=pending",
        f"/orders?status={RARE}",
        f"/orders?sellerId=s9&status={RARE}",
        "/orders?sellerId=s9&status=paid",
        f"/orders?sellerId={BIG}&status=paid",
        f"/orders?sellerId={BIG}&status=pending",
        "/orders?sellerId=nobody",
        "/orders?sellerId=s9&customerId=nobody",
    ],
)
def test_a_page_of_orders_reads_no_more_than_it_shows(api: InProcess, path: str) -> None:
    before = rows_read(api, "^orders")
    walk(api, path, REQUESTS)
    assert rows_read(api, "^orders") - before <= REQUESTS * ROWS_A_REQUEST_MAX
    wanted = dict(pair.split("=") for pair in path.partition("?")[2].split("&") if pair)
    for row in api.get(path).json()["data"]:
        assert all(row[name] == value for name, value in wanted.items())


def test_a_page_of_orders_reads_the_lines_of_its_orders_only(api: InProcess) -> None:
    before = rows_read(api, "^order_items")
    walk(api, "/orders", REQUESTS)
    assert rows_read(api, "^order_items") - before <= REQUESTS * (LIMIT + 1)


@pytest.mark.parametrize("path", ["/audit", "/audit?sellerId=s7", "/audit?sellerId=nobody"])
def test_a_page_of_the_audit_reads_no_more_than_it_shows(api: InProcess, path: str) -> None:
    before = rows_read(api, "^audit_log")
    rows = walk(api, path, REQUESTS)
    assert rows_read(api, "^audit_log") - before <= REQUESTS * ROWS_A_REQUEST_MAX
    assert len({row["id"] for row in rows}) == len(rows)


def test_a_page_of_the_ledger_reads_no_more_than_it_shows(api: InProcess) -> None:
    before = rows_read(api, "^stock_movements")
    rows = walk(api, f"/products/{PRODUCT}/stock-movements", REQUESTS)
    assert rows_read(api, "^stock_movements") - before <= REQUESTS * ROWS_A_REQUEST_MAX
    assert len(rows) == (REQUESTS - 1) * LIMIT


def test_an_order_is_found_and_stepped_without_reading_others(api: InProcess) -> None:
    before = rows_read(api, "^(order|reservations|stock_movements|audit_log)")
    product = api.product(stock=100)["id"]
    for _ in range(REQUESTS):
        line = {"productId": product, "quantity": 1}
        order = api.post("/orders", {"items": [line]}).json()["id"]
        assert api.get(f"/orders/{order}").status_code == 200
        assert api.get(f"/orders/{order}/history").status_code == 200
        for action in ("confirm", "pay", "ship"):
            assert api.post(f"/orders/{order}/{action}").status_code == 200
        headers = {"Idempotency-Key": order}
        assert api.post(f"/orders/{order}/refunds", headers=headers).status_code == 201
    read = rows_read(api, "^(order|reservations|stock_movements|audit_log)") - before
    # Seven requests; the order and its line, the order again to change it, its history.
    assert read <= REQUESTS * 7 * 4
