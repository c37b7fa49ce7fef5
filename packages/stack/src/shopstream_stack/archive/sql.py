"""`archive sql`: a query of DuckDB over a folder that `archive get` filled."""

from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb

from shopstream_stack.errors import StackError

#: A day's worth of JSON lines is larger than memory should be; DuckDB goes to disk beyond it.
MEMORY: Final = "2GB"


class Answer(NamedTuple):
    """What a query found."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


def ask(query: str, folder: Path) -> Answer:
    """Run a query whose file names are relative to the folder, in UTC. Raises StackError.

    The database is in memory, and DuckDB fetches no extension by itself. A query is its author's
    program all the same: `COPY … TO` writes files, and any path can be read.
    """
    if not folder.is_dir():
        raise StackError(f"{folder} is no folder; `shopstream archive get --to {folder}` fills one")
    config: dict[str, str | bool | int | float | list[str]] = {
        "file_search_path": str(folder),
        "memory_limit": MEMORY,
        "temp_directory": str(folder / ".duckdb"),
        "autoinstall_known_extensions": "false",
    }
    with duckdb.connect(config=config) as connection:
        try:
            connection.execute("SET TimeZone = 'UTC'")
            found = connection.execute(query)
            columns = [str(column[0]) for column in found.description or ()]
            return Answer(columns, found.fetchall())
        except duckdb.Error as error:
            raise StackError(f"DuckDB: {error}") from None
