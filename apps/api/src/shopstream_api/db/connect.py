"""How every connection to PostgreSQL is made: bounded in all that can wait."""

from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from shopstream_api.db import arrays

CONNECT_TIMEOUT_SECONDS: Final = 3
STATEMENT_TIMEOUT_MS: Final = 10_000
LOCK_TIMEOUT_MS: Final = 8_000
IDLE_IN_TRANSACTION_TIMEOUT_MS: Final = 10_000

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


def connect(address: str) -> psycopg.Connection[TupleRow]:
    """A connection in autocommit, for threads of their own."""
    return psycopg.connect(address, autocommit=True)
