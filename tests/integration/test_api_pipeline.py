"""A transaction's statements go together, in their order; what fails or is given up leaves none."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from tests.support.components import LocalComponents
from tests.support.system import wait_until

from shopstream_api.db import arrays, pipeline
from shopstream_api.db.connect import connect_async
from shopstream_api.db.pipeline import WAITING_MAX, Pipeline
from shopstream_api.db.wire import DriverConnection, Statement

INSERT = Statement("t_insert", "INSERT INTO t SELECT n FROM unnest(%(n)s) AS v (n)")
FOUND = Statement("t_found", "SELECT n FROM t WHERE n > ALL (%(n)s) ORDER BY n")
DIVIDE = Statement("t_divide", "SELECT 1 / (%(n)s)[1]")
SLEEP = Statement("t_sleep", "SELECT pg_sleep((%(n)s)[1])")
LENGTH = Statement("t_length", "SELECT length((%(b)s)[1]), repeat('x', length((%(b)s)[1]))")
BIG_BYTES = 4_000_000

pytestmark = pytest.mark.anyio


class _Refused(Exception):
    """As a business rule refuses a command."""


def _n(*values: int) -> dict[str, arrays.Array]:
    return {"n": arrays.integers(values)}


@pytest.fixture
def url(session_components: LocalComponents) -> str:
    session_components.up("postgres")
    made = session_components.fresh_database()
    with psycopg.connect(made) as admin:
        admin.execute("CREATE TABLE t (n integer PRIMARY KEY)")
    return made


@pytest.fixture
async def driver(url: str) -> AsyncIterator[DriverConnection]:
    async with await connect_async(url) as made:
        yield made


@pytest.fixture
async def statements(driver: DriverConnection) -> Pipeline:
    return Pipeline(driver)


def _stored(url: str) -> list[int]:
    with psycopg.connect(url) as admin:
        return [n for (n,) in admin.execute("SELECT n FROM t ORDER BY n")]


def _sleeping(url: str) -> int:
    with psycopg.connect(url) as admin:
        found = admin.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event = 'PgSleep'"
        ).fetchone()
    assert found is not None
    count: int = found[0]
    return count


async def test_what_is_added_has_happened_before_what_is_awaited(
    url: str, statements: Pipeline
) -> None:
    statements.add(INSERT, _n(1))
    statements.add(INSERT, _n(2))
    assert _stored(url) == []
    assert await statements.run(FOUND, _n(0)) == [(1,), (2,)]
    statements.add(INSERT, _n(3))
    assert await statements.together((FOUND, _n(1)), (INSERT, _n(4)), (FOUND, _n(2))) == [
        [(2,), (3,)],
        [],
        [(3,), (4,)],
    ]
    assert _stored(url) == []
    statements.add(INSERT, _n(5))
    await statements.commit()
    assert statements.idle
    assert _stored(url) == [1, 2, 3, 4, 5]


async def test_a_transaction_in_which_nothing_was_done_sends_nothing(
    driver: DriverConnection, statements: Pipeline
) -> None:
    await statements.flush()
    await statements.commit()
    await statements.end()
    assert driver.prepared == set()


async def test_a_refusal_of_what_was_added_is_raised_by_the_commit_and_nothing_is_stored(
    url: str, statements: Pipeline
) -> None:
    statements.add(INSERT, _n(1))
    statements.add(DIVIDE, _n(0))
    statements.add(INSERT, _n(2))
    with pytest.raises(psycopg.errors.DivisionByZero):
        await statements.commit()
    await statements.end()
    assert _stored(url) == []
    # The connection is as good as before, with the statements that it has and those it has not.
    statements.add(INSERT, _n(2))
    assert await statements.run(DIVIDE, _n(1)) == [(1,)]
    await statements.commit()
    assert _stored(url) == [2]


@pytest.mark.parametrize("more", [True, False])
async def test_a_refusal_that_was_passed_over_is_no_commit(
    url: str, statements: Pipeline, *, more: bool
) -> None:
    await statements.run(INSERT, _n(1))
    with pytest.raises(psycopg.errors.DivisionByZero):
        await statements.run(DIVIDE, _n(0))
    if more:
        statements.add(INSERT, _n(2))
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        await statements.commit()
    await statements.end()
    assert _stored(url) == []


async def test_what_cannot_be_sent_ends_the_connection(statements: Pipeline) -> None:
    with pytest.raises(KeyError):
        await statements.together((FOUND, _n(0)), (DIVIDE, {}))
    assert statements.closed


async def test_the_first_refusal_is_the_one_that_is_raised(statements: Pipeline) -> None:
    statements.add(DIVIDE, _n(0))
    with pytest.raises(psycopg.errors.DivisionByZero):
        await statements.together((INSERT, _n(1, 1)), (FOUND, _n(0)))


async def test_the_end_undoes_what_was_sent_and_what_was_not(
    url: str, statements: Pipeline
) -> None:
    await statements.run(INSERT, _n(1))
    statements.add(INSERT, _n(2))
    await statements.end()
    assert statements.idle
    await statements.commit()
    assert _stored(url) == []


@pytest.mark.parametrize("sent", [True, False])
async def test_a_savepoint_undoes_what_is_inside_and_no_more(
    url: str, statements: Pipeline, *, sent: bool
) -> None:
    async def refused() -> None:
        async with statements.savepoint():
            statements.add(INSERT, _n(2))
            if sent:
                await statements.flush()
            statements.add(INSERT, _n(3))
            raise _Refused

    statements.add(INSERT, _n(1))
    with pytest.raises(_Refused):
        await refused()
    async with statements.savepoint():
        statements.add(INSERT, _n(4))
    await statements.commit()
    assert _stored(url) == [1, 4]


async def test_what_the_server_has_refused_inside_a_savepoint_is_undone_too(
    url: str, statements: Pipeline
) -> None:
    async def refused() -> None:
        async with statements.savepoint():
            statements.add(INSERT, _n(2))
            await statements.run(DIVIDE, _n(0))

    with pytest.raises(psycopg.errors.DivisionByZero):
        await refused()
    statements.add(INSERT, _n(1))
    await statements.commit()
    assert _stored(url) == [1]


async def test_who_is_cancelled_keeps_no_lock_and_no_connection(
    url: str, driver: DriverConnection, statements: Pipeline
) -> None:
    statements.add(INSERT, _n(1))
    task = asyncio.create_task(statements.run(SLEEP, _n(30)))
    await asyncio.to_thread(wait_until, lambda: _sleeping(url), "the statement runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert driver.closed
    assert statements.closed
    await statements.end()
    # The server has stopped at once: the row's key is free long before the thirty seconds.
    await asyncio.to_thread(wait_until, lambda: not _sleeping(url), "the statement is ended")
    with psycopg.connect(url) as admin:
        admin.execute("INSERT INTO t VALUES (1)")
    assert _stored(url) == [1]


async def test_a_server_that_does_not_answer_is_given_up(
    url: str, statements: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "STATEMENT_SECONDS_MAX", 0.1)
    with pytest.raises(TimeoutError):
        await statements.run(SLEEP, _n(30))
    assert statements.closed
    await asyncio.to_thread(wait_until, lambda: not _sleeping(url), "the statement is ended")


async def test_a_server_that_goes_away_says_why(url: str, statements: Pipeline) -> None:
    task = asyncio.create_task(statements.run(SLEEP, _n(30)))
    await asyncio.to_thread(wait_until, lambda: _sleeping(url), "the statement runs")
    with psycopg.connect(url) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event = 'PgSleep'"
        )
    with pytest.raises(psycopg.errors.AdminShutdown):
        await task
    assert statements.closed
    await statements.end()


async def test_more_than_the_socket_takes_at_once_goes_both_ways(statements: Pipeline) -> None:
    blob = {"b": arrays.blobs([bytes(BIG_BYTES)])}
    for _ in range(3):
        statements.add(LENGTH, blob)
    (row,) = await statements.run(LENGTH, blob)
    assert row == (BIG_BYTES, "x" * BIG_BYTES)


async def test_a_statement_that_psycopg_has_deallocated_is_prepared_anew(
    driver: DriverConnection, statements: Pipeline
) -> None:
    await statements.run(FOUND, _n(0))
    await statements.commit()
    await driver.execute("DEALLOCATE ALL")
    await driver.commit()
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        await statements.run(FOUND, _n(0))
    await statements.end()
    assert await statements.run(FOUND, _n(0)) == []


async def test_statements_of_the_driver_and_ours_are_of_one_transaction(
    url: str, driver: DriverConnection, statements: Pipeline
) -> None:
    await driver.execute("INSERT INTO t VALUES (1)")
    statements.add(INSERT, _n(2))
    assert await statements.run(FOUND, _n(0)) == [(1,), (2,)]
    await driver.execute("INSERT INTO t VALUES (3)")
    await statements.end()
    assert _stored(url) == []


async def test_what_waits_is_bounded(statements: Pipeline) -> None:
    for n in range(WAITING_MAX):
        statements.add(INSERT, _n(n))
    with pytest.raises(ValueError, match="wait to be sent"):
        statements.add(INSERT, _n(WAITING_MAX))
    await statements.end()
