"""Where a check keeps what does not fit into memory: a DuckDB file with a bound on its memory.

Rows come in as CSV, by chunks, which is the fastest way in that needs no other library. No column
is ever NULL: a CSV could not tell that from an empty text.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import duckdb

from shopstream_stack.verify.report import SHOWN_MAX

#: Of the 500 MB that the check may take; the process around it takes some 150.
MEMORY_LIMIT: Final = "200MiB"
#: More threads hold more buffers at a time.
THREADS: Final = 2
LOAD_BYTES_MAX: Final = 16 * 1024 * 1024
FETCH_ROWS: Final = 10_000

#: Column names and DuckDB types, in the order of the CSV.
Columns = Mapping[str, str]


class Spool:
    """One database of one check; tables are named by their owners."""

    def __init__(self, folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.folder = folder
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, folder: Path, memory_limit: str = MEMORY_LIMIT) -> Iterator[Self]:
        """A fresh database in an existing, empty folder."""
        connection = duckdb.connect(
            folder / "spool.duckdb",
            config={
                "memory_limit": memory_limit,
                "threads": str(THREADS),
                "preserve_insertion_order": "false",
                "temp_directory": str(folder / "spilled"),
                # The log of an import is checked at its end only: nobody recovers a spool.
                "checkpoint_threshold": "64MiB",
            },
        )
        try:
            yield cls(folder, connection)
        finally:
            connection.close()

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Execute a statement whose rows nobody needs."""
        self._connection.execute(statement, values)

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query that gives few."""
        return self._connection.execute(query, values).fetchall()

    def first(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """As many rows of a query as a report spells out."""
        return self.rows(f"{query} LIMIT {SHOWN_MAX}", values)

    def stream(self, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query that may give many."""
        # A cursor of its own: the connection may be used between two rows.
        cursor = self._connection.cursor()
        try:
            cursor.execute(query, values)
            while chunk := cursor.fetchmany(FETCH_ROWS):
                yield from chunk
        finally:
            cursor.close()

    def number(self, query: str, values: Sequence[Any] = ()) -> int:
        """The one number of a query."""
        return int(self.rows(query, values)[0][0])

    def table(self, name: str, columns: Columns) -> "Table":
        """Make a table and give what fills it."""
        types = ", ".join(f"{column} {kind} NOT NULL" for column, kind in columns.items())
        self.run(f"CREATE TABLE {name} ({types})")
        return Table(self, name, columns)

    def load(self, table: str, columns: Columns, file: Path) -> None:
        """Take a CSV file in, and delete it."""
        shape = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
        texts = ", ".join(f"'{name}'" for name, kind in columns.items() if kind == "VARCHAR")
        self.run(
            f"INSERT INTO {table} SELECT * FROM read_csv(?, header = false, delim = ',', "  # noqa: S608 - our own names
            f"quote = '\"', escape = '\"', columns = {{{shape}}}, force_not_null = [{texts}], "
            "auto_detect = false, parallel = false)",
            [str(file)],
        )
        file.unlink()


class Table:
    """Fills one table; use as a context, whose end loads the rest."""

    def __init__(self, spool: Spool, name: str, columns: Columns) -> None:
        self._spool = spool
        self._name = name
        self._columns = columns
        self._path = spool.folder / f"{name}.csv"
        self._raw = io.BytesIO()
        self._text = io.TextIOWrapper(self._raw, "utf-8", newline="", write_through=False)
        #: Takes one row, a value a column.
        self.add = csv.writer(self._text, lineterminator="\n").writerow
        self._since = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.flush()

    def add_csv(self, chunk: bytes) -> None:
        """Take in bytes that are CSV already; a chunk need not end with a line."""
        self._raw.write(chunk)

    def checkpoint(self) -> None:
        """Load what is waiting if it is much; call it between rows."""
        if self._raw.tell() >= LOAD_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Load what is waiting."""
        self._text.flush()
        if self._raw.tell():
            self._path.write_bytes(self._raw.getbuffer())
            self._raw.seek(0)
            self._raw.truncate()
            self._spool.load(self._name, self._columns, self._path)
