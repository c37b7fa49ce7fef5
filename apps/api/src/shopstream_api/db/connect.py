"""How every connection to PostgreSQL is made: bounded in all that can wait."""

from typing import Any, Final

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from shopstream_api.db import arrays

CONNECT_TIMEOUT_SECONDS: Final = 3
STATEMENT_TIMEOUT_MS: Final = 10_000
LOCK_TIMEOUT_MS: Final = 8_000
IDLE_IN_TRANSACTION_TIMEOUT_MS: Final = 10_000
#: A server that is there has ended a statement by then: its own limit, and time for the way.
ANSWER_SECONDS_MAX: Final = STATEMENT_TIMEOUT_MS / 1_000 + 2
#: How often a waiting thread looks for Ctrl-C.
WAIT_STEP_SECONDS: Final = 0.1

#: Sessions of requests: a stuck one gives its locks back by itself.
REQUEST_OPTIONS: Final = {
    "statement_timeout": STATEMENT_TIMEOUT_MS,
    "lock_timeout": LOCK_TIMEOUT_MS,
    "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT_MS,
}


def conninfo(database_url: str, name: str, options: dict[str, int | str] | None = None) -> str:
    """The libpq address with our bounds; ``name`` is shown in pg_stat_activity."""
    known: dict[str, Any] = conninfo_to_dict(database_url)
    settings = " ".join(f"-c {key}={value}" for key, value in (options or {}).items())
    given = known.get("options")
    known["options"] = f"{given} {settings}" if given else settings
    known.setdefault("connect_timeout", CONNECT_TIMEOUT_SECONDS)
    known["application_name"] = name
    return make_conninfo(**known)


async def connect_async(address: str) -> psycopg.AsyncConnection[TupleRow]:
    """A connection for the pool."""
    connection = await psycopg.AsyncConnection.connect(address)
    arrays.adapt(connection)
    return connection


class BoundedConnection(psycopg.Connection[TupleRow]):
    """Waits a bounded time for each answer, then is closed. Raises psycopg.OperationalError.

    A network may keep a connection open that passes nothing more: no end is seen, and keepalives
    are answered by whatever stands between. The server's own limits end only what reached it.
    """

    answer_seconds_max = ANSWER_SECONDS_MAX

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


def connect(
    address: str, answer_seconds_max: float = ANSWER_SECONDS_MAX
) -> psycopg.Connection[TupleRow]:
    """A connection in autocommit, for threads of their own."""
    connection = BoundedConnection.connect(address, autocommit=True)
    connection.answer_seconds_max = answer_seconds_max
    return connection
