"""Single statements on connections of their own: rows, refusals, and servers that go away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import psycopg
import pytest
from tests.support.components import LocalComponents
from tests.support.system import wait_until

from shopstream_api.db import arrays, direct
from shopstream_api.db.connect import connect_async
from shopstream_api.db.direct import DirectConnections
from shopstream_api.db.wire import Statement

AGE: Final = 1_000
ECHO: Final = Statement(
    "echo",
    "SELECT * FROM unnest(%(ids)s, %(names)s, %(sizes)s, %(counts)s, %(at)s, %(blobs)s)"
    " AS t (id, name, size, count, at, blob) WHERE name LIKE '%%' OR name = ANY(%(names)s)"
    " OR name IS NULL",
)
LENGTHS: Final = Statement("lengths", "SELECT length(b) FROM unnest(%(blobs)s) AS t (b)")
SLEEP: Final = Statement(
    "sleep", "SELECT pg_sleep(n), pg_backend_pid() FROM unnest(%(n)s) AS t (n)"
)
PID: Final = Statement("pid", "SELECT pg_backend_pid() FROM unnest(%(n)s) AS t (n)")
DIVIDE: Final = Statement("divide", "SELECT 1 / n FROM unnest(%(n)s) AS t (n)")
INSERT: Final = Statement("insert", "INSERT INTO child SELECT n FROM unnest(%(n)s) AS t (n)")
ONE: Final = {"n": arrays.integers([1])}

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(session_components: LocalComponents) -> str:
    session_components.up("postgres")
    return session_components.fresh_database()


@pytest.fixture
async def connections(url: str) -> AsyncIterator[DirectConnections]:
    async with aclosing(_Connections(url)) as made:
        yield made


class _Connections(DirectConnections):
    def __init__(self, url: str) -> None:
        super().__init__(lambda: connect_async(url), age_seconds_max=AGE)

    async def aclose(self) -> None:
        await self.close()


async def _pid(connections: DirectConnections) -> int:
    async with connections.connection() as wire:
        found: int = (await wire.run(PID, ONE))[0][0]
        return found


async def _asleep(connections: DirectConnections) -> None:
    async with connections.connection() as wire:
        await wire.run(SLEEP, {"n": arrays.integers([30])})


async def test_rows_are_those_that_the_driver_reads(
    url: str, connections: DirectConnections
) -> None:
    parameters = {
        "ids": arrays.uuids([UUID(int=1), None]),
        "names": arrays.texts(["naïve %", None]),
        "sizes": arrays.integers([-5, 2**31 - 1]),
        "counts": arrays.bigints([2**63 - 1, None]),
        "at": arrays.moments([datetime(2026, 3, 1, 12, 30, 1, 5, tzinfo=UTC)] * 2),
        "blobs": arrays.blobs([b"\x00\xff", b""]),
    }
    async with await connect_async(url) as driver:
        cursor = await driver.execute(ECHO.text.encode(), parameters, prepare=True, binary=True)
        expected = await cursor.fetchall()
    async with connections.connection() as wire:
        for _ in range(2):
            assert await wire.run(ECHO, parameters) == expected
    assert (len(expected), expected[0][1], expected[0][5]) == (2, "naïve %", b"\x00\xff")


async def test_a_statement_larger_than_the_socket_takes_at_once_arrives_whole(
    connections: DirectConnections,
) -> None:
    blob = bytes(range(256)) * 4_000
    async with connections.connection() as wire:
        found = await wire.run(LENGTHS, {"blobs": arrays.blobs([blob] * 20)})
    assert found == [(len(blob),)] * 20


async def test_connections_are_used_again(connections: DirectConnections) -> None:
    assert await _pid(connections) == await _pid(connections)


async def test_after_a_refusal_the_next_statement_has_a_connection_that_works(
    connections: DirectConnections,
) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        async with connections.connection() as wire:
            await wire.run(DIVIDE, {"n": arrays.integers([1, 0])})
    async with connections.connection() as wire:
        assert await wire.run(DIVIDE, ONE) == [(1,)]


async def test_what_fails_at_the_commit_is_no_success(
    url: str, connections: DirectConnections
) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE TABLE parent (n int PRIMARY KEY)")
        admin.execute("CREATE TABLE child (n int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            async with connections.connection() as wire:
                await wire.run(INSERT, ONE)
        assert admin.execute("SELECT count(*) FROM child").fetchone() == (0,)


async def test_a_connection_that_the_server_ends_says_why_and_is_replaced(
    url: str, connections: DirectConnections
) -> None:
    pid = await _pid(connections)
    async with await connect_async(url) as admin:
        await admin.set_autocommit(True)

        sleeping = asyncio.create_task(_asleep(connections))
        await asyncio.to_thread(wait_until, lambda: _sleeps(url, pid), "the statement runs")
        await admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises(psycopg.errors.AdminShutdown):
            await sleeping
    assert await _pid(connections) != pid


def _sleeps(url: str, pid: int) -> bool:
    with psycopg.connect(url) as admin:
        found = admin.execute(
            "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = %s", (pid,)
        ).fetchone()
    return found == (True,)


async def test_a_connection_that_is_lost_at_rest_is_not_used_again(
    url: str, connections: DirectConnections
) -> None:
    pid = await _pid(connections)
    async with await connect_async(url) as admin:
        await admin.set_autocommit(True)
        await admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    wire, _ = connections._idle[0]
    await asyncio.to_thread(wait_until, lambda: wire.closed, "its end is noticed")
    assert await _pid(connections) != pid


async def test_a_statement_that_is_never_answered_ends_and_its_connection_with_it(
    connections: DirectConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = await _pid(connections)
    monkeypatch.setattr(direct, "STATEMENT_SECONDS_MAX", 0.1)
    with pytest.raises(TimeoutError):
        await _asleep(connections)
    monkeypatch.undo()
    assert connections._idle == []
    assert await _pid(connections) != pid


async def test_a_cancelled_statement_leaves_no_connection_with_half_an_answer(
    url: str, connections: DirectConnections
) -> None:
    pid = await _pid(connections)
    task = asyncio.create_task(_asleep(connections))
    await asyncio.to_thread(wait_until, lambda: _sleeps(url, pid), "the statement runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert connections._idle == []
    assert await _pid(connections) != pid


async def test_what_is_in_use_when_all_are_closed_is_closed_after_its_statement(
    connections: DirectConnections,
) -> None:
    async with connections.connection() as wire:
        await connections.close()
        assert await wire.run(DIVIDE, ONE) == [(1,)]
    assert wire.closed
    assert connections._idle == []
