"""Several shards: where rows go, when their number may change, who leads them."""

import argparse
import signal
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from tests.support.api import ApiProcess, published
from tests.support.components import LocalComponents
from tests.support.system import wait_until

from shopstream_api.outbox.relay import shards
from shopstream_api.outbox.relay.postgres import LEADER_LOCK, PostgresStore
from shopstream_api.settings import ApiSettings

COUNT = 4
#: The promises are 5, 10 and 15 s; tests allow three times that.
SERVES_SECONDS_MAX = 15.0
KILLED_SECONDS_MAX = 30.0
STOPPED_SECONDS_MAX = 45.0


@pytest.fixture
def api(components: LocalComponents) -> Iterator[ApiProcess]:
    """Without a relay; all topics are there."""
    components.up("kafka", "postgres")
    with ApiProcess.beside(components, SHOPSTREAM_RELAY="off") as process:
        wait_until(lambda: process.answers("/health"), "the topics are there")
        yield process


def _shards(api: ApiProcess, count: int | None = None) -> int:
    """`shopstream-api shards`; returns its exit code."""
    return shards.run(ApiSettings.model_validate(api.environ), argparse.Namespace(count=count))


def _message(api: ApiProcess) -> str:
    message: str = api.client.get("/health").json()["checks"]["relay"]["message"]
    return message


def _leads(api: ApiProcess) -> int:
    return _message(api).count("leading")


def _shop(api: ApiProcess, products: int) -> list[str]:
    """Products that are changed and sold, several at a time."""

    def one(number: int) -> str:
        product: str = api.product(name=f"n{number}", stock=20)["id"]
        for price in (2, 3):
            assert api.client.patch(f"/products/{product}", json={"price": price}).is_success
        assert api.order((product, 18)).status_code == 201
        return product

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(products)))


def _require_exact(components: LocalComponents, products: list[str]) -> None:
    """Every version of each product and its inventory once, in order."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for record in published(components.kafka_brokers, *products):
        found[record.topic, record.key].append(record.sequence)
    for product in products:
        assert found["shop.products", product] == [1, 2, 3]
        assert found["shop.inventory", product] == [1, 2]


def test_the_number_of_shards_changes_only_with_nothing_at_work_and_nothing_waiting(
    api: ApiProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protocol rule 4: else an aggregate could have rows in two shards at once."""

    def refused(count: int = COUNT) -> str:
        assert _shards(api, count) == 1
        return capsys.readouterr().err

    with psycopg.connect(api.database_url) as leader:
        leader.execute("SELECT pg_advisory_lock(%s, 0)", (LEADER_LOCK,))
        assert "a relay leads shard 0" in refused()
    monkeypatch.setattr(shards, "LOCK_TIMEOUT_MS", 100)
    with psycopg.connect(api.database_url) as writer:
        writer.execute("LOCK TABLE outbox IN ROW EXCLUSIVE MODE")
        assert "somebody writes" in refused()
    product = api.product()["id"]
    assert "1 events wait" in refused()
    api.execute(
        "WITH gone AS (DELETE FROM outbox RETURNING *) INSERT INTO outbox_poison SELECT seq, id,"
        " aggregatetype, aggregateid, type, payload, topic, headers, time_ms, shard, 'r', now()"
        " FROM gone"
    )
    assert "1 events are poison" in refused()
    api.execute("DELETE FROM outbox_poison WHERE aggregateid = %s", product)
    assert "1 to 64" in refused(65)
    assert _shards(api) == 0
    assert capsys.readouterr().out == "1 shards\n"
    for count in (COUNT, 1, COUNT):
        assert _shards(api, count) == 0
    assert api.query("SELECT shard FROM relay_state ORDER BY 1") == [(n,) for n in range(COUNT)]


def test_a_write_that_waits_for_the_change_goes_by_the_new_number(api: ApiProcess) -> None:
    """Protocol rule 4: read before the change, the number would be that of the old shards."""
    with psycopg.connect(api.database_url) as change:
        change.execute(shards._LOCK)
        made: list[str] = []
        writer = threading.Thread(target=lambda: made.extend(_made(api, 24)))
        writer.start()
        wait_until(lambda: _waiting(api) > 0, "a statement waits for the table")
        change.execute(shards._CHANGE, {"count": COUNT})
        change.commit()
        writer.join()
    rows = api.query("SELECT aggregateid, shard FROM outbox")
    assert {key for key, _ in rows} == set(made)
    for key, shard in rows:
        assert shard == int(key[-7:], 16) % COUNT
    assert len({shard for _, shard in rows}) > 1
    api.execute("DELETE FROM outbox")


def _made(api: ApiProcess, count: int) -> list[str]:
    return [api.product()["id"] for _ in range(count)]


def _waiting(api: ApiProcess) -> int:
    ((count,),) = api.query(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'outbox'::regclass"
    )
    return int(count)


def test_processes_share_the_shards_and_one_takes_over_what_another_led(
    api: ApiProcess, components: LocalComponents
) -> None:
    """Stopped, then killed, under load: each event once, in order of its aggregate."""
    assert _shards(api, COUNT) == 0
    environ = {**api.environ, "SHOPSTREAM_RELAY": "inline"}
    # The stopped one has failed when it wakes up; its share comes back after a minute, as it is.
    patches = ["counts_again_soon_after_a_failure"]
    with ApiProcess(environ, patches) as one:
        wait_until(lambda: _leads(one) == COUNT, "one leads all")
        with ApiProcess(environ, patches) as two:
            wait_until(lambda: (_leads(one), _leads(two)) == (2, 2), "each leads half")
            products = _shop(api, 8)
            one.signal(signal.SIGSTOP)
            _within(STOPPED_SECONDS_MAX, lambda: _leads(two) == COUNT)
            products += _shop(api, 8)
            one.signal(signal.SIGCONT)
            wait_until(lambda: (_leads(one), _leads(two)) == (2, 2), "each leads half again")
            products += _shop(api, 4)
            two.kill()
            killed = time.monotonic()
            _within(KILLED_SECONDS_MAX, lambda: _leads(one) == COUNT)
            products += _shop(api, 4)
            two.start()
            assert time.monotonic() - killed < KILLED_SECONDS_MAX + SERVES_SECONDS_MAX
            api.drained()
            _require_exact(components, products)


def _within(seconds_max: float, holds: Callable[[], bool]) -> None:
    wait_until(holds, "the other one leads all", seconds_max=seconds_max)


def test_a_process_that_was_killed_serves_and_publishes_again_in_time(
    components: LocalComponents,
) -> None:
    components.up("kafka", "postgres")
    with ApiProcess.beside(components) as api:
        wait_until(lambda: api.answers("/health"), "all is healthy")
        api.product()
        api.kill()
        killed = time.monotonic()
        api.start()
        assert time.monotonic() - killed < SERVES_SECONDS_MAX
        product = api.product()["id"]
        api.drained()
        assert time.monotonic() - killed < KILLED_SECONDS_MAX
        assert len(published(components.kafka_brokers, product)) == 1


def test_a_relay_reads_the_number_with_its_lock_in_hand(api: ApiProcess) -> None:
    """Rule 4: with several shards a transaction is never waited for to be whole."""
    assert _shards(api, COUNT) == 0
    key = str(uuid.uuid4())
    api.execute(
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, topic, headers,"
        " time_ms, txid, txrows, shard) SELECT gen_random_uuid(), 'product', %s, 't', '{}',"
        " 'shop.products', '[]', 0, 7, 9, n %% 4 FROM generate_series(0, 8) AS n",
        key,
    )
    store = PostgresStore(api.database_url)
    try:
        assert store.try_lead()
        assert len(store.take(2)) == 2
        assert len(store.take(100)) == 3
    finally:
        store.close()
    api.execute("DELETE FROM outbox")
