"""What jobs claim and sweep reads little more than it takes, also by plans of an empty table.

Each job first finds nothing, as often as makes the driver prepare its statement and the server keep
a plan; then there is much.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

import pytest
from prometheus_client import CollectorRegistry
from tests.support.app import InProcess, in_process, migrated_database
from tests.support.components import LocalComponents
from tests.support.reads import fill, rows_read, walk

from shopstream_api.background import Sweeper
from shopstream_api.idempotency.repository import SWEEP_ROWS_MAX
from shopstream_api.idempotency.service import KEPT
from shopstream_api.outbox.relay.metrics import RelayMetrics
from shopstream_api.outbox.relay.postgres import PostgresStore
from shopstream_api.stock.low_stock import LEVELS_MAX
from shopstream_shared.clock import ManualClock

ROWS: Final = 10_000
#: So many that a page of one seller is a small part of its products.
PRODUCTS: Final = 40_000
START: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: psycopg prepares a statement it has run 5 times, the server then weighs a generic plan.
TURNS: Final = 14
TAKEN: Final = 100
RUNNING: Final = 10
LIMIT: Final = 20
THRESHOLD: Final = 5 * LEVELS_MAX

_OUTBOX: Final = """
WITH poison AS (
    INSERT INTO outbox_poison (seq, id, aggregatetype, aggregateid, type, payload, topic, headers,
                               time_ms, shard, reason, at)
    SELECT -n, gen_random_uuid(), 'product', 'poison ' || n, 'x', '', 'shop.products', '[]', 0, 0,
           'x', now()
    FROM generate_series(1, %(rows)s) AS n
)
INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms, txid,
                    txrows, shard)
SELECT gen_random_uuid(), 'product', n::text, 'x', '', 'shop.products', '[]', 0, n, 1, 0
FROM generate_series(1, %(rows)s) AS n
"""
_KEYS: Final = """
INSERT INTO idempotency_keys (id, fingerprint, status, headers, body, created_at)
SELECT sha256(n::text::bytea), '', 200, '{}', convert_to(repeat('x', 300), 'UTF8'),
       CASE WHEN n <= %(old)s THEN %(expired)s ELSE %(now)s END
FROM generate_series(1, %(rows)s) AS n
"""
_IMPORTS: Final = """
INSERT INTO imports (id, status, media_type, rows_created, rows_updated, rows_unchanged,
                     rows_failed, request_id, created_at, updated_at)
SELECT gen_random_uuid(), CASE WHEN n <= %(running)s THEN 'running' ELSE 'done' END,
       'application/x-ndjson', 0, 0, 0, 0, 'r', %(now)s, %(now)s
FROM generate_series(1, %(rows)s) AS n
"""
_PRODUCTS: Final = """
INSERT INTO products (id, seller_id, name, tags, price_minor, price, currency, status,
                      initial_stock, stock, reserved, version, inventory_version, created_at,
                      updated_at)
SELECT gen_random_uuid(), 's' || n %% 30, 'x', '{}', 5, 0.05, 'USD', 'active', stock, stock, 0, 1,
       0, at, at
FROM (SELECT n, n %% (2 * %(threshold)s) AS stock, %(now)s - n * interval '1 s' AS at
      FROM generate_series(1, %(rows)s) AS n) AS made
"""


@pytest.fixture
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(
        session_components,
        database_url=migrated_database(session_components),
        clock=ManualClock(START),
        checked=False,
        SHOPSTREAM_POOL_SIZE="1",
        LOW_STOCK_THRESHOLD=str(THRESHOLD),
    ) as running:
        yield running


def _values(api: InProcess, **further: object) -> dict[str, object]:
    return {"rows": ROWS, "now": api.clock.now(), **further}


def _turns(work: Callable[[], object]) -> list[object]:
    return [work() for _ in range(TURNS)]


def test_the_relay_reads_what_it_takes(api: InProcess) -> None:
    with closing(PostgresStore(api.database_url)) as store:
        assert _turns(lambda: len(store.take(TAKEN))) == [0] * TURNS
        fill(api.database_url, _OUTBOX, _values(api))
        before = rows_read(api, "^outbox")
        assert _turns(lambda: len(store.take(TAKEN))) == [TAKEN] * TURNS
        store._value("SELECT pg_stat_force_next_flush()", ())
        # Looked at once, and again in a snapshot that may take more.
        assert 0 < rows_read(api, "^outbox") - before <= TURNS * 2 * TAKEN


def test_a_sweep_of_keys_reads_those_it_forgets(api: InProcess) -> None:
    metrics = RelayMetrics(CollectorRegistry(), api.clock)
    sweeper = Sweeper(api.resources.database, api.clock, metrics)
    _turns(lambda: api.run(sweeper._once))
    old = 3 * SWEEP_ROWS_MAX
    values = _values(api, old=old, expired=api.clock.now() - KEPT)
    fill(api.database_url, _KEYS, values, vacuumed="idempotency_keys")
    before = rows_read(api, "^idempotency_keys$")
    api.run(sweeper._once)
    assert api.query("SELECT count(*) FROM idempotency_keys") == [(ROWS - old,)]
    # Each is found by its age, locked, and found by its id.
    assert rows_read(api, "^idempotency_keys$") - before <= 3 * old
    before = rows_read(api, "^idempotency_keys$")
    _turns(lambda: api.run(sweeper._once))
    assert rows_read(api, "^idempotency_keys$") - before <= TURNS


def test_imports_are_claimed_without_reading_those_that_have_ended(api: InProcess) -> None:
    assert _turns(lambda: api.run(api.resources.imports.step)) == [False] * TURNS
    fill(api.database_url, _IMPORTS, _values(api, running=RUNNING))
    before = rows_read(api, "^imports$")
    while api.run(api.resources.imports.step):
        pass
    # Claimed and ended; entries of some that have ended may still be in the way.
    assert 0 < rows_read(api, "^imports$") - before <= RUNNING * (RUNNING + 2)
    assert api.query("SELECT count(*) FROM imports WHERE status = 'running'") == [(0,)]


@pytest.mark.parametrize("path", ["/inventory/low-stock", "/inventory/low-stock?sellerId=s3"])
def test_a_page_of_low_stock_with_a_high_threshold_is_met_soon(api: InProcess, path: str) -> None:
    _turns(lambda: api.get(path).status_code)
    fill(
        api.database_url,
        _PRODUCTS,
        _values(api, rows=PRODUCTS, threshold=THRESHOLD),
        vacuumed="products",
    )
    before = rows_read(api, "^products$")
    rows = walk(api, path, TURNS)
    assert len(rows) == (TURNS - 1) * LIMIT
    # Half are low, and the page's last tells whether more follow.
    assert rows_read(api, "^products$") - before <= TURNS * 4 * (LIMIT + 1)
