"""The pool has all its connections again, at whatever step the user of one is cancelled."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest
from sqlalchemy.pool import QueuePool
from tests.support.app import migrated_database
from tests.support.components import LocalComponents
from tests.support.races import AFTER, BEFORE, When, paused

from shopstream_api.db.transaction import Database, Transaction
from shopstream_api.db.wire import Wire
from shopstream_api.principal import RequestContext
from shopstream_shared.clock import SystemClock, Uuid7Source

SECONDS_MAX = 10.0


@pytest.fixture(scope="module")
def url(session_components: LocalComponents) -> str:
    return migrated_database(session_components)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    made = Database(
        url,
        pool_size=1,
        pool_timeout_seconds=SECONDS_MAX,
        turn_timeout_seconds=SECONDS_MAX,
        clock=SystemClock(),
        ids=Uuid7Source(),
        on_commit=lambda: None,
    )
    made.not_ready = None
    yield made
    await made.close()
    # What nobody closed is told of here: warnings are errors.
    gc.collect()


async def _read(database: Database) -> None:
    async with database.reading() as connection:
        await connection.exec_driver_sql("SELECT 1")


async def _command(database: Database) -> None:
    async def work(tx: Transaction) -> None:
        await (await tx.connection()).exec_driver_sql("SELECT 1")

    await database.run(RequestContext("r"), work)


@pytest.mark.anyio
@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize(
    ("use", "place"),
    [
        (_read, (psycopg.AsyncConnection, "set_autocommit")),
        (_read, (psycopg.AsyncCursor, "execute")),
        (_command, (psycopg.AsyncCursor, "execute")),
        (_command, (Wire, "together")),
    ],
)
async def test_who_is_cancelled_at_a_step_leaves_the_connection_to_the_pool(
    database: Database,
    use: Callable[[Database], Awaitable[None]],
    place: tuple[type, str],
    when: When,
) -> None:
    # Connecting has steps of its own, which are the pool's business.
    await _read(database)
    with paused(*place, when) as gate:
        user = asyncio.ensure_future(use(database))
        await gate.reached()
        user.cancel()
        with pytest.raises(asyncio.CancelledError):
            await user
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedout() == 0
    await use(database)
