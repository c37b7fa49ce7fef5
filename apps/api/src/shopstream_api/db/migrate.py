"""Alembic's migrations, run from inside the package under one advisory lock.

Several processes may start at once: the first migrates, the others wait for the lock and find
nothing left to do. In a rolling deploy an old process may start on a schema that is newer than its
code: migrations only ever add what the release before can live with, so it leaves the schema alone
and serves.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from shopstream_api.db.connect import conninfo
from shopstream_api.errors import Unavailable

#: A fixed number nobody else uses: "shopmigr" in ASCII, as a signed 64-bit integer.
MIGRATION_LOCK: Final = int.from_bytes(b"shopmigr")
LOCK_WAIT_SECONDS: Final = 60.0
LOCK_POLL_SECONDS: Final = 0.1


def migrate(database_url: str, revision: str = "head") -> None:
    """Bring the database to a revision; blocks. One that is past all this code knows stays there.

    Raises Unavailable when another process holds the lock for too long, and SQLAlchemy's errors
    when the database is away.
    """
    with _connection(database_url) as connection:
        _lock(connection)
        if revision == "head" and _is_newer(_present(connection)):
            return
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def downgrade(database_url: str, revision: str) -> None:
    """Take the database back to a revision; blocks. Raises as `migrate` does."""
    with _connection(database_url) as connection:
        _lock(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def is_current(database_url: str) -> bool:
    """True when the database is at the newest revision this code knows, or past it."""
    with _connection(database_url) as connection:
        present = _present(connection)
    return present == _head() or _is_newer(present)


def _present(connection: Connection) -> str | None:
    """The database's revision; the question leaves no transaction open."""
    present = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    return present


def _head() -> str:
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None  # noqa: S101 - there are migrations
    return head


def _is_newer(present: str | None) -> bool:
    """True for a revision of a later release; they are numbered in one line."""
    return present is not None and present > _head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _connection(database_url: str) -> Iterator[Connection]:
    address = conninfo(database_url, "shopstream-migrate")
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(address), poolclass=NullPool
    )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _lock(connection: Connection) -> None:
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    statement = text("SELECT pg_try_advisory_lock(:key)")
    while not connection.execute(statement, {"key": MIGRATION_LOCK}).scalar_one():
        connection.rollback()
        if time.monotonic() > deadline:
            raise Unavailable("Another process has been migrating the database for too long.")
        time.sleep(LOCK_POLL_SECONDS)
    # The lock belongs to the session, so it outlives this transaction and ends with the session.
    connection.commit()
