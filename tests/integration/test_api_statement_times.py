"""`shopstream_db_statement_seconds`: every statement of a request counts, with its commit."""

import time
from collections import Counter

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.api import ApiProcess
from tests.support.components import LocalComponents

from shopstream_api.db import arrays
from shopstream_api.db.connect import connect_async
from shopstream_api.db.measure import operation_of
from shopstream_api.db.wire import Statement, Wire

NAME = "shopstream_db_statement_seconds"
WAIT: Statement = Statement("wait", "SELECT pg_sleep(n) FROM unnest(%(n)s) AS t (n)")
DIVIDE: Statement = Statement("divide", "SELECT 1 / n FROM unnest(%(n)s) AS t (n)")
BUSY_SECONDS = 0.2
#: More than the background tasks can have sent of one operation in the time.
REQUESTS = 50


class Told:
    """What a connection has told, by operation."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def __call__(self, operation: str, seconds: float) -> None:
        self.seconds.setdefault(operation, []).append(seconds)


@pytest.fixture
def url(session_components: LocalComponents) -> str:
    session_components.up("postgres")
    return session_components.fresh_database()


def counts(api: ApiProcess) -> Counter[str]:
    families = text_string_to_metric_families(api.client.get("/metrics").text)
    samples = [one for family in families for one in family.samples if one.name == f"{NAME}_count"]
    return Counter({one.labels["operation"]: int(one.value) for one in samples})


@pytest.mark.anyio
async def test_a_statement_takes_until_its_answer_and_a_commit_is_one_of_its_own(url: str) -> None:
    told = Told()
    async with await connect_async(url, told) as connection:
        await connection.execute("SELECT pg_sleep(%s)", (BUSY_SECONDS,))
        await connection.commit()
        await connection.commit()  # nothing is open: nothing is sent
    assert {name: len(times) for name, times in told.seconds.items()} == {"select": 1, "commit": 1}
    assert told.seconds["select"][0] >= BUSY_SECONDS


@pytest.mark.anyio
async def test_a_statement_that_fails_counts_with_the_time_it_took(url: str) -> None:
    told = Told()
    async with await connect_async(url, told) as connection:
        await connection.set_autocommit(True)
        await connection.execute("SET statement_timeout = 100")
        with pytest.raises(psycopg.errors.QueryCanceled):
            await connection.execute("SELECT pg_sleep(5)")
    assert told.seconds["select"][0] >= 100 / 1_000


@pytest.mark.anyio
async def test_shared_statements_count_once_each_whether_they_fail_or_not(url: str) -> None:
    told = Told()
    wire = Wire(await connect_async(url, told))
    began = time.perf_counter()
    await wire.run(WAIT, {"n": arrays.integers([0, 0])})
    with pytest.raises(psycopg.errors.DivisionByZero):
        await wire.run(DIVIDE, {"n": arrays.integers([0])})
    await wire.close()
    assert len(told.seconds["select"]) == 2
    assert sum(told.seconds["select"]) <= time.perf_counter() - began


def test_requests_of_every_way_are_in_the_histogram(session_components: LocalComponents) -> None:
    with ApiProcess.beside(session_components, SHOPSTREAM_RELAY="off") as api:
        before = counts(api)
        body = {"name": "Lamp", "price": 5, "stock": 2 * REQUESTS, "sellerId": "s1"}
        for _ in range(REQUESTS):
            product = api.client.post("/products", json=body).raise_for_status().json()["id"]
        created = counts(api)
        # Products are made by a statement that many requests share.
        assert created["with"] - before["with"] >= REQUESTS
        for _ in range(REQUESTS):
            api.client.get("/products").raise_for_status()
        listed = counts(api)
        assert listed["select"] - created["select"] >= REQUESTS
        items = [{"productId": product, "quantity": 1}]
        for _ in range(REQUESTS):
            api.client.post("/orders", json={"items": items}).raise_for_status()
        assert counts(api)["commit"] - listed["commit"] >= REQUESTS


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ("\n  WITH made AS (SELECT 1) SELECT 1", "with"),
        (b"INSERT INTO outbox", "insert"),
        ("update products set", "update"),
        ("DELETE FROM outbox", "delete"),
        ("LISTEN events", "other"),
        ("COMMIT", "commit"),
        ("SAVEPOINT effects", None),
        ("rollback", None),
        ("", "other"),
        (None, "other"),
    ],
)
def test_an_operation_is_one_of_a_few_first_words(text: object, operation: str | None) -> None:
    assert operation_of(text) == operation
