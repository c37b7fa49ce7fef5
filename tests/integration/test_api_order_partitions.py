"""Orders by month: made ahead, moved out of the default, and never in the way of an insert."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests.support.app import InProcess, in_process, migrated_database
from tests.support.components import LocalComponents

from shopstream_api.db.migrate import downgrade, migrate
from shopstream_api.orders.partitions import AHEAD_MONTHS, first_id, following, wanted
from shopstream_shared.clock import ManualClock
from shopstream_shared.health import Unhealthy

NOW = datetime.now(UTC)


@pytest.fixture
def url(session_components: LocalComponents) -> str:
    return migrated_database(session_components)


@pytest.fixture
def api(session_components: LocalComponents, url: str) -> Iterator[InProcess]:
    with in_process(session_components, database_url=url, clock=ManualClock(NOW)) as running:
        yield running


@pytest.fixture
def filled(session_components: LocalComponents, url: str) -> Iterator[InProcess]:
    """For tests that store orders past the API, without their events."""
    clock = ManualClock(NOW)
    with in_process(session_components, database_url=url, clock=clock, checked=False) as running:
        yield running


def _partitions(url: str, table: str) -> set[str]:
    found = _rows(
        url,
        f"SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{table}'::regclass",
    )
    return {row[0] for row in found}


def _rows(url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode(), parameters).fetchall()


def _id_in(month: date) -> uuid.UUID:
    """An id of that month, version 7."""
    tail = uuid.uuid4().int & (1 << 76) - 1
    return uuid.UUID(int=first_id(month).int + (60_000 << 80) | 7 << 76 | tail)


def _insert(url: str, order_id: uuid.UUID) -> None:
    """An order as old code would store it, with one line."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO orders (id, seller_id, status, currency, subtotal_minor, tax_minor,"
            " shipping_minor, total_minor, refunded_minor, version, created_at, updated_at)"
            " VALUES (%s, 's1', 'cancelled', 'USD', 5, 0, 0, 5, 0, 1, now(), now())",
            (order_id,),
        )
        connection.execute(
            "INSERT INTO order_items (order_id, line, product_id, name, quantity,"
            " unit_price_minor, total_minor) VALUES (%s, 0, %s, 'x', 1, 5, 5)",
            (order_id, uuid.uuid4()),
        )


def _place_of(url: str, table: str, key: str, order_id: uuid.UUID | str) -> str:
    ((found,),) = _rows(
        url, f"SELECT tableoid::regclass::text FROM {table} WHERE {key} = %s", order_id
    )
    return str(found)


def test_orders_go_to_the_partition_of_their_month(api: InProcess) -> None:
    product = api.product(stock=5)["id"]
    placed = api.post("/orders", {"items": [{"productId": product, "quantity": 1}]})
    order = placed.json()["id"]
    assert _place_of(api.database_url, "orders", "id", order) == f"orders_{NOW:%Y_%m}"
    assert _place_of(api.database_url, "order_items", "order_id", order) == (
        f"order_items_{NOW:%Y_%m}"
    )
    assert api.get(f"/orders/{order}").content == placed.content


def test_months_are_made_ahead_and_health_names_one_that_is_missing(api: InProcess) -> None:
    names = {f"{month:%Y_%m}" for month in wanted(NOW)}
    assert len(names) == AHEAD_MONTHS + 1
    for table in ("orders", "order_items"):
        made = {f"{table}_default", *(f"{table}_{name}" for name in names)}
        assert _partitions(api.database_url, table) == made
    task = api.resources.partitions
    api.run(task.make_missing)
    assert f"{wanted(NOW)[-1]:%Y-%m}" in api.run(task.probe)
    # A process that stood still for months knows that it is late.
    api.clock.advance(timedelta(days=31 * (AHEAD_MONTHS + 1)))
    late = f"{following(wanted(api.clock.now())[0]):%Y-%m}"
    with pytest.raises(Unhealthy, match=late):
        api.run(task.probe)
    assert api.get("/health").json()["checks"]["partitions"]["status"] == "unhealthy"
    assert api.get("/health/ready").status_code == 200
    api.run(task.make_missing)
    api.run(task.probe)
    assert api.get("/health").json()["checks"]["partitions"]["status"] == "healthy"


def test_rows_without_a_month_wait_in_the_default_until_theirs_is_made(filled: InProcess) -> None:
    past, beyond = date(2024, 2, 1), following(wanted(NOW)[-1])
    old, late, strange = _id_in(past), _id_in(beyond), uuid.UUID(int=2**128 - 1)
    for order_id in (old, late, strange):
        _insert(filled.database_url, order_id)
        assert _place_of(filled.database_url, "orders", "id", order_id) == "orders_default"
    filled.run(filled.resources.partitions.make_missing)
    for table, key in (("orders", "id"), ("order_items", "order_id")):
        assert _place_of(filled.database_url, table, key, old) == f"{table}_2024_02"
        assert _place_of(filled.database_url, table, key, late) == f"{table}_default"
    filled.clock.advance(timedelta(days=31))
    filled.run(filled.resources.partitions.make_missing)
    assert _place_of(filled.database_url, "orders", "id", late) == f"orders_{beyond:%Y_%m}"
    assert _place_of(filled.database_url, "orders", "id", strange) == "orders_default"
    assert {row["id"] for row in filled.get("/orders?sellerId=s1").json()["data"]} == {
        str(order_id) for order_id in (old, late, strange)
    }


def test_a_month_that_was_put_away_does_not_stand_in_the_way(filled: InProcess) -> None:
    past = date(2024, 2, 1)
    order = _id_in(past)
    _insert(filled.database_url, order)
    filled.run(filled.resources.partitions.make_missing)
    with psycopg.connect(filled.database_url) as connection:
        connection.execute("ALTER TABLE orders DETACH PARTITION orders_2024_02")
    assert filled.get(f"/orders/{order}").status_code == 404
    _insert(filled.database_url, _id_in(past))
    filled.clock.advance(timedelta(days=31))
    filled.run(filled.resources.partitions.make_missing)
    filled.run(filled.resources.partitions.probe)
    assert f"orders_{wanted(filled.clock.now())[-1]:%Y_%m}" in _partitions(
        filled.database_url, "orders"
    )


def test_a_clock_of_another_century_stops_nothing(
    session_components: LocalComponents, url: str
) -> None:
    clock = ManualClock(datetime(2150, 12, 31, 23, 59, tzinfo=UTC))
    with in_process(session_components, database_url=url, clock=clock) as api:
        api.run(api.resources.partitions.make_missing)
        assert {f"orders_{name}" for name in ("2150_12", "2151_01", "2151_03")} <= _partitions(
            url, "orders"
        )
        product = api.product(stock=1)["id"]
        placed = api.post("/orders", {"items": [{"productId": product, "quantity": 1}]})
        assert placed.status_code == 201
        assert api.get(f"/orders/{placed.json()['id']}").json() == placed.json()


def test_several_processes_make_each_partition_once(
    session_components: LocalComponents, url: str
) -> None:
    clock = ManualClock(NOW + timedelta(days=400))
    order = _id_in(date(2023, 5, 1))
    _insert(url, order)
    with (
        in_process(session_components, database_url=url, clock=clock, checked=False) as one,
        in_process(session_components, database_url=url, clock=clock, checked=False) as two,
    ):
        passes = [
            api.portal.start_task_soon(api.resources.partitions.make_missing)
            for api in (one, two, one, two)
        ]
        for one_pass in passes:
            one_pass.result(30)
        for api in (one, two):
            api.run(api.resources.partitions.make_missing)
            api.run(api.resources.partitions.probe)
    assert {f"orders_{month:%Y_%m}" for month in wanted(clock.now())} <= _partitions(url, "orders")
    assert _place_of(url, "orders", "id", order) == "orders_2023_05"
    assert _rows(url, "SELECT count(*) FROM orders") == [(1,)]


def test_a_partition_waits_its_turn_and_does_not_hold_up_requests(filled: InProcess) -> None:
    _insert(filled.database_url, _id_in(date(2022, 1, 1)))
    with psycopg.connect(filled.database_url) as reader:
        reader.execute("SELECT count(*) FROM orders")

        async def scene() -> list[int]:
            one_pass = asyncio.create_task(filled.resources.partitions.make_missing())
            answers = [await filled.client.get("/orders") for _ in range(3)]
            await one_pass
            return [answer.status_code for answer in answers]

        assert filled.run(scene) == [200, 200, 200]
        assert "orders_2022_01" not in _partitions(filled.database_url, "orders")
    filled.run(filled.resources.partitions.make_missing)
    assert "orders_2022_01" in _partitions(filled.database_url, "orders")


def test_the_migration_takes_present_orders_along_up_and_down(
    session_components: LocalComponents,
) -> None:
    session_components.up("postgres")
    url = session_components.fresh_database()
    migrate(url, "0003")
    indexes = _indexes(url)
    ids = [_id_in(date(2025, 12, 1)), _id_in(date(2026, 1, 1)), uuid.UUID(int=2**128 - 1)]
    for order_id in ids:
        _insert(url, order_id)
    before = _contents(url)
    migrate(url, "0004")
    assert _contents(url) == before
    places = [_place_of(url, "orders", "id", order_id) for order_id in ids]
    assert places == ["orders_2025_12", "orders_2026_01", "orders_default"]
    # Code of the earlier schema goes on writing, and a downgrade keeps that too.
    _insert(url, _id_in(date(2026, 1, 1)))
    _insert(url, _id_in(following(date(2019, 12, 1))))
    after = _contents(url)
    downgrade(url, "0003")
    assert _contents(url) == after
    assert _indexes(url) == indexes
    assert _rows(url, "SELECT count(*) FROM pg_partitioned_table") == [(0,)]
    migrate(url, "0004")
    assert _contents(url) == after


def _contents(url: str) -> list[list[tuple[Any, ...]]]:
    return [
        _rows(url, f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("orders", "order_items")
    ]


def _indexes(url: str) -> list[tuple[Any, ...]]:
    return _rows(
        url, "SELECT indexname, indexdef FROM pg_indexes WHERE tablename ~ '^order' ORDER BY 1"
    )
