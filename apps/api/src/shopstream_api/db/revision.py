"""Which migrations the database has, asked without Alembic: a start mostly needs no more.

Alembic takes a tenth of a start's processor time to load (ADR 0020). Revisions are numbered in one
line, and a migration's file begins with its revision.
"""

from pathlib import Path

import psycopg

from shopstream_api.db.connect import connect
from shopstream_api.db.migrations import versions


def newest() -> str:
    """The newest revision this code knows."""
    files = Path(versions.__path__[0]).glob("[0-9]*_*.py")
    return max(file.name.partition("_")[0] for file in files)


def present(database_url: str) -> str | None:
    """The database's revision, None before the first; blocks. Raises psycopg.Error."""
    with connect(database_url, "shopstream-schema") as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except psycopg.errors.UndefinedTable:
            return None
    return None if row is None else str(row[0])


def is_current(database_url: str) -> bool:
    """True when the database is at the newest revision this code knows, or past it; as above."""
    found = present(database_url)
    return found is not None and found >= newest()
