"""How every connection to PostgreSQL is made: bounded in all that can wait."""

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from shopstream_api.db import arrays
from shopstream_api.db.measure import MeasuredConnection, Observe

CONNECT_TIMEOUT_SECONDS: Final = 3
STATEMENT_TIMEOUT_MS: Final = 10_000
LOCK_TIMEOUT_MS: Final = 8_000
IDLE_IN_TRANSACTION_TIMEOUT_MS: Final = 10_000
#: There and back, beyond the statement's own limit.
WAY_SECONDS_MAX: Final = 2.0
#: The server ends a statement before this; a server that is gone without a word cannot.
STATEMENT_SECONDS_MAX: Final = STATEMENT_TIMEOUT_MS / 1_000 + WAY_SECONDS_MAX
#: How often a waiting thread looks for Ctrl-C.
WAIT_STEP_SECONDS: Final = 0.1

#: Sessions of requests: a stuck one gives its locks back by itself.
REQUEST_OPTIONS: Final = {
    "statement_timeout": STATEMENT_TIMEOUT_MS,
    "lock_timeout": LOCK_TIMEOUT_MS,
    "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT_MS,
}


#: Of every session, whatever database or role say: a relay may publish at once what is committed.
#: If it was lost again, its numbers would be drawn anew, and a progress record would delete rows
#: that were never published.
DURABLE: Final[Mapping[str, int | str]] = {"synchronous_commit": "on"}


def conninfo(database_url: str, name: str, options: Mapping[str, int | str] | None = None) -> str:
    """The libpq address with our bounds; ``name`` is shown in pg_stat_activity."""
    known: dict[str, Any] = conninfo_to_dict(database_url)
    settings = " ".join(
        f"-c {key}={value}" for key, value in {**DURABLE, **(options or {})}.items()
    )
    given = known.get("options")
    known["options"] = f"{given} {settings}" if given else settings
    known.setdefault("connect_timeout", CONNECT_TIMEOUT_SECONDS)
    known["application_name"] = name
    return make_conninfo(**known)


async def connect_async(address: str, observe: Observe | None = None) -> MeasuredConnection:
    """A connection for the pool; ``observe`` is told how long each statement took."""
    connection = await MeasuredConnection.open(address, observe)
    arrays.adapt(connection)
    return connection


class BoundedConnection(psycopg.Connection[TupleRow]):
    """Waits a bounded time for each answer, then is closed. Raises psycopg.OperationalError.

    A network may keep a connection open that passes nothing more: no end is seen, and keepalives
    are answered by whatever stands between. The server's own limits end only what reached it.
    """

    answer_seconds_max = STATEMENT_SECONDS_MAX

    def wait(
        self, gen: PQGen[RV], interval: float = WAIT_STEP_SECONDS, timeout: float | None = None
    ) -> RV:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_seconds_max)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                # The answer may still come: nothing else may be asked here.
                self.pgconn.finish()
            raise


class BoundedAsyncConnection(psycopg.AsyncConnection[TupleRow]):
    """The same in an event loop."""

    answer_seconds_max = BoundedConnection.answer_seconds_max

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = WAIT_STEP_SECONDS,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's own signature
    ) -> RV:
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        try:
            return await super().wait(gen, interval, self.answer_seconds_max)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


def connect(
    database_url: str, name: str, options: Mapping[str, int | str] | None = None
) -> BoundedConnection:
    """A connection in autocommit, for threads of their own; ``options`` as in `conninfo`.

    Each statement has a limit, ``statement_timeout`` or ours. The answer is awaited a little
    longer, so that it is the server that ends what takes too long, and undoes it.
    """
    bounded = {"statement_timeout": STATEMENT_TIMEOUT_MS, **(options or {})}
    connection = BoundedConnection.connect(conninfo(database_url, name, bounded), autocommit=True)
    connection.answer_seconds_max = int(bounded["statement_timeout"]) / 1_000 + WAY_SECONDS_MAX
    return connection
