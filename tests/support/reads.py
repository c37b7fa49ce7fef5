"""How much a request reads, measured where it happens: in the server's own counts of rows.

They hold for prepared statements and their generic plans too; a sequential scan or a sort of all
would show. The application must have one connection (SHOPSTREAM_POOL_SIZE=1), whose counts can be
asked for at any time.
"""

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from sqlalchemy import text
from tests.support.app import InProcess

#: Reading a few pages from end to end is the best there is to do with them.
LARGE_BYTES: Final = 64 * 1024

_READ: Final = f"""
SELECT coalesce(sum(seq_tup_read), 0) + coalesce(sum(idx_tup_fetch), 0)
FROM pg_stat_user_tables WHERE relname ~ %s AND pg_relation_size(relid) > {LARGE_BYTES}
"""
_FLUSH: Final = "SELECT pg_stat_force_next_flush()"


def fill(
    database_url: str,
    statements: str,
    values: Mapping[str, object] | None = None,
    *,
    vacuumed: str | None = None,
) -> None:
    """Make rows, and leave nothing of that to be counted later.

    ``vacuumed`` are tables, with commas between. The server vacuums what was filled at a time of
    its own, and reads all of a table that has a BRIN index then: to be had at once instead.
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statements.encode(), values)
        if vacuumed is not None:
            connection.execute(f"VACUUM ANALYZE {vacuumed}".encode())
        connection.execute(_FLUSH)


def rows_read(api: InProcess, tables: str) -> int:
    """How many rows of these tables (a pattern; large ones only) have been fetched so far."""

    async def reported() -> None:
        async with api.resources.database.reading() as connection:
            await connection.execute(text(_FLUSH))

    api.run(reported)
    ((rows,),) = api.query(_READ, tables)
    return int(rows)


def walk(api: InProcess, path: str, requests: int) -> list[dict[str, Any]]:
    """So many pages of a list from its head, the last one read backwards; rows of the others."""
    joint = "&" if "?" in path else "?"
    page: dict[str, Any] = api.get(path).json()
    rows = list(page["data"])
    for _ in range(requests - 2):
        if page["hasMore"]:
            page = api.get(f"{path}{joint}cursor={page['nextCursor']}").json()
            rows += page["data"]
    if page["prevCursor"] is not None:
        assert api.get(f"{path}{joint}cursor={page['prevCursor']}").status_code == 200
    return rows
