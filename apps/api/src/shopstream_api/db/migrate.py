"""Alembic's migrations, run from inside the package under one advisory lock.

Several processes may start at once: the first migrates, the others wait for the lock and find
nothing left to do. In a rolling deploy an old process may start on a schema that is newer than its
code: migrations only ever add what the release before can live with, so it leaves the schema alone
and serves. Whether there is anything to do is `revision`'s to say, without Alembic.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from shopstream_api.db.connect import conninfo
from shopstream_api.db.revision import is_current
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
        # Asked again: another process may have migrated meanwhile.
        if revision == "head" and is_current(database_url):
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
