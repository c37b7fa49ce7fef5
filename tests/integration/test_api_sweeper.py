"""Expired keys are forgotten faster than they can be made, and no younger ones with them."""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

from shopstream_api.background import SWEEP_BATCHES_MAX, SWEEP_SECONDS, Sweeper
from shopstream_api.idempotency.repository import SWEEP_ROWS_MAX
from shopstream_api.idempotency.service import KEPT
from shopstream_api.outbox.relay.metrics import RelayMetrics

#: What one process takes in at most, with a key each; the bench's figure, doubled.
KEYS_A_SECOND = 10_000


@pytest.fixture
def api(components: LocalComponents) -> Iterator[InProcess]:
    with in_process(components) as running:
        yield running


def _sweeper(api: InProcess) -> Sweeper:
    metrics = RelayMetrics(CollectorRegistry(), api.clock)
    return Sweeper(api.resources.database, api.clock, metrics)


def test_one_sweep_forgets_all_expired_keys_and_keeps_the_others(api: InProcess) -> None:
    old, young = 3 * SWEEP_ROWS_MAX + 1, 5
    for count, age in ((old, KEPT), (young, KEPT - timedelta(minutes=1))):
        api.query(
            "WITH made AS (INSERT INTO idempotency_keys"
            " SELECT sha256(%s::text::bytea || i::text::bytea), '', 200, '{}', '', %s"
            " FROM generate_series(1, %s) AS i RETURNING 1) SELECT count(*) FROM made",
            count,
            api.clock.now() - age,
            count,
        )

    api.run(_sweeper(api)._once)

    assert api.query("SELECT count(*) FROM idempotency_keys") == [(young,)]


def test_a_sweep_leaves_an_expired_key_that_is_stored_anew_meanwhile(api: InProcess) -> None:
    now = api.clock.now()
    with psycopg.connect(api.database_url) as connection:
        connection.execute(
            "INSERT INTO idempotency_keys VALUES ('k', '', 200, '{}', '', %s)", (now - KEPT,)
        )
        connection.commit()
        connection.execute("UPDATE idempotency_keys SET created_at = %s", (now,))
        api.run(_sweeper(api)._once)

    assert api.query("SELECT id FROM idempotency_keys") == [(b"k",)]


def test_sweeps_keep_up_with_the_highest_rate_of_keys() -> None:
    assert SWEEP_BATCHES_MAX * SWEEP_ROWS_MAX / SWEEP_SECONDS >= KEYS_A_SECOND
