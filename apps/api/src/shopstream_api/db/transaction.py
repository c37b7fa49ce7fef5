"""One transaction a command: state, ledger, audit and events commit together or not at all."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shopstream_api.db.connect import REQUEST_OPTIONS, connect_async, conninfo
from shopstream_api.db.direct import DirectConnections
from shopstream_api.db.measure import Observe
from shopstream_api.db.pipeline import Pipeline
from shopstream_api.db.record import Record
from shopstream_api.db.wire import DriverConnection, Statements
from shopstream_api.errors import Unavailable
from shopstream_api.outbox.writer import write
from shopstream_api.principal import RequestContext
from shopstream_shared.clock import Clock, IdSource

#: A deadlock or a serialization failure leaves nothing behind: the command just runs again.
ATTEMPTS_MAX: Final = 4
RETRY_PAUSE_SECONDS_MAX: Final = 0.05
#: One connection of so many is kept from commands, which may all wait for one row's lock: those
#: who only read, health among them, are served beside any number of buyers of one product.
CONNECTIONS_A_READER: Final = 4
#: A connection is not reused for ever, so that a failed-over address is noticed.
CONNECTION_AGE_SECONDS_MAX: Final = 1_800

#: So does one whose connection has prepared less than we thought.
_AGAIN: Final = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.InvalidSqlStatementName,
)
#: The server is there but cannot serve us now: time-outs, too many connections, shutting down.
_BUSY: Final = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.TooManyConnections,
    psycopg.errors.DiskFull,
    psycopg.errors.ReadOnlySqlTransaction,
    *_AGAIN,
)

T = TypeVar("T")


class Transaction(Record):
    """What a command works with; services pass it to repositories and record events on it."""

    def __init__(
        self,
        connection: AsyncConnection,
        statements: Pipeline,
        context: RequestContext,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        super().__init__(context, clock, ids)
        #: The way of all that a command does often.
        self.statements = statements
        self._connection = connection
        self._written = 0, 0

    async def connection(self) -> AsyncConnection:
        """The same transaction for what is done seldom; all that waits to be sent is sent before.

        Raises psycopg.Error, TimeoutError.
        """
        await self.statements.flush()
        return self._connection

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Effects inside are undone when it raises, the events recorded inside too."""
        events, audits, written = len(self.events), len(self.audits), self._written
        try:
            async with self.statements.savepoint():
                yield
        except BaseException:
            del self.events[events:], self.audits[audits:]
            self._written = written
            raise

    def written(self, record: Record | None = None) -> None:
        """All that is recorded, here and in ``record``, a statement of the command has written."""
        if record is not None:
            self.events += record.events
            self.audits += record.audits
        self._written = len(self.events), len(self.audits)

    async def commit(self) -> None:
        """Write what was recorded, the last statement before the commit, and commit.

        Raises psycopg.Error, TimeoutError; ValueError when a part of what was recorded is written:
        the events of a transaction are written by one statement, which counts them (rule 4).
        """
        self._flush()
        await self.statements.commit()

    def _flush(self) -> None:
        if self._written == (len(self.events), len(self.audits)):
            return
        if self._written != (0, 0):
            msg = "something was recorded after the events had been written"
            raise ValueError(msg)
        write(self.statements, self.events, self.audits)


class Database:
    """The pool. ``on_commit`` is told after each commit that left events behind.

    Commands take turns, first come, first served: no more are under way than the pool has
    connections beside those for readers. ``turn_timeout_seconds`` bounds the wait of a command that
    no request's deadline ends sooner; that of a reader is ``pool_timeout_seconds``.
    ``observe`` is told how long each statement took.
    """

    def __init__(
        self,
        database_url: str,
        *,
        pool_size: int,
        pool_timeout_seconds: float,
        turn_timeout_seconds: float,
        clock: Clock,
        ids: IdSource,
        on_commit: Callable[[], None],
        observe: Observe | None = None,
    ) -> None:
        address = conninfo(database_url, "shopstream-api", dict(REQUEST_OPTIONS))
        self._connect = partial(connect_async, address, observe)
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=self._connect,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_seconds,
            pool_recycle=CONNECTION_AGE_SECONDS_MAX,
        )
        self._direct = DirectConnections(self._connect, age_seconds_max=CONNECTION_AGE_SECONDS_MAX)
        self._turns = asyncio.Semaphore(commands_max(pool_size))
        self._turn_timeout_seconds = turn_timeout_seconds
        self._clock = clock
        self._ids = ids
        self._on_commit = on_commit
        #: Why requests cannot be served yet; None once the schema is there.
        self.not_ready: str | None = "the schema has not been checked yet"

    async def run(self, context: RequestContext, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run a command in one transaction, again after a deadlock or serialization failure.

        ``work`` may run several times; only the last one's effects stay. Raises Unavailable when
        the database is away, exhausted or too slow, else what ``work`` raises.
        """
        async with self._turn():
            return await self._repeated(lambda: self._once(context, work))

    async def direct(self, statement: Callable[[Statements], Awaitable[T]]) -> T:
        """Run one statement in autocommit, without the pool; as `run` in all else.

        Who leaves events behind says so by `committed`. A refusal by the server is psycopg.Error:
        then nothing was written.
        """
        return await self._repeated(lambda: self._directly(statement))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._turn_timeout_seconds):
                await self._turns.acquire()
        except TimeoutError as error:
            raise Unavailable("Too many commands are waiting.") from error
        try:
            yield
        finally:
            self._turns.release()

    async def _directly(self, statement: Callable[[Statements], Awaitable[T]]) -> T:
        async with self._direct.connection() as wire:
            return await statement(wire)

    def record(self, context: RequestContext) -> Record:
        """What a command leaves behind, for a statement that writes it itself."""
        return Record(context, self._clock, self._ids)

    def committed(self) -> None:
        """Wake the relay: there are new events."""
        self._on_commit()

    async def _repeated(self, once: Callable[[], Awaitable[T]]) -> T:
        self._require_ready()
        attempt = 1
        while True:
            try:
                return await once()
            except (DBAPIError, PoolTimeout, TimeoutError, psycopg.Error) as error:
                if not _is(error, _AGAIN) or attempt == ATTEMPTS_MAX:
                    raise _translated(error) from error
            attempt += 1
            await asyncio.sleep(random.uniform(0, RETRY_PAUSE_SECONDS_MAX))  # noqa: S311 - jitter

    async def _once(
        self, context: RequestContext, work: Callable[[Transaction], Awaitable[T]]
    ) -> T:
        async with self._transaction(context) as transaction:
            result = await work(transaction)
            await transaction.commit()
        if transaction.events:
            self.committed()
        return result

    @asynccontextmanager
    async def _transaction(self, context: RequestContext) -> AsyncIterator[Transaction]:
        """One on a connection of the pool; what is not committed at its end is undone."""
        async with self.engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver: DriverConnection | None = raw.driver_connection
            assert driver is not None  # noqa: S101 - an open connection has one
            statements = Pipeline(driver)
            try:
                yield Transaction(connection, statements, context, self._clock, self._ids)
            finally:
                try:
                    await statements.end()
                finally:
                    if statements.closed:
                        await connection.invalidate()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection in autocommit: each statement is its own snapshot.

        Raises Unavailable as `run` does.
        """
        self._require_ready()
        try:
            async with self.engine.connect() as connection:
                # Reads are one statement each: without BEGIN and ROLLBACK around it. Not by an
                # option of the engine: who is cancelled meanwhile would leave it to nobody.
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                yield connection
        except (DBAPIError, PoolTimeout, psycopg.Error) as error:
            raise _translated(error) from error

    @asynccontextmanager
    async def session(self) -> AsyncIterator[DriverConnection]:
        """A connection in autocommit outside the pool, for what takes long; callers bound how many.

        Raises Unavailable as `run` does.
        """
        self._require_ready()
        try:
            connection = await self._connect()
            try:
                await connection.set_autocommit(True)
                yield connection
            finally:
                await connection.close()
        except (TimeoutError, psycopg.Error) as error:
            raise _translated(error) from error

    def _require_ready(self) -> None:
        if self.not_ready is not None:
            raise Unavailable("The database is not ready.")

    async def close(self) -> None:
        await self._direct.close()
        await self.engine.dispose()


def commands_max(pool_size: int) -> int:
    """How many commands are under way at a time; one at least, whatever the pool."""
    return max(1, pool_size - max(1, pool_size // CONNECTIONS_A_READER))


def _is(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    return isinstance(error, kinds) or (
        isinstance(error, DBAPIError) and isinstance(error.orig, kinds)
    )


def _translated(error: Exception) -> Exception:
    """Unavailable for whatever may pass by waiting; a fault of ours stays what it is."""
    if isinstance(error, PoolTimeout):
        return Unavailable("All database connections are busy.")
    if isinstance(error, TimeoutError):
        return Unavailable("The database does not answer.")
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if lost or _is(error, (*_BUSY, psycopg.OperationalError, psycopg.InterfaceError)):
        return Unavailable("The database is away or too busy.")
    return error
