"""Where a check keeps what does not fit into memory: a DuckDB file with a bound on its memory.

Rows of Python come in by columns (2.4 µs a row, where writing and reading CSV took 8); what is CSV
already comes in as it is. No column is ever NULL: a CSV could not tell that from an empty text.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import duckdb
import numpy as np

from shopstream_stack.verify.report import SHOWN_MAX, Invariant, Violation, Words

#: Of the 500 MB that the check may take; the process around it takes some 150.
MEMORY_LIMIT: Final = "200MiB"
#: More threads hold more buffers at a time.
THREADS: Final = 2
#: So many rows of Python wait for their load: some 10 MB of the widest.
LOAD_ROWS_MAX: Final = 10_000
#: CSV waits on disk. Many row groups at once go straight to their place, not to the journal first.
LOAD_BYTES_MAX: Final = 256 * 1024 * 1024
FETCH_ROWS: Final = 10_000
#: A join of more rows than this is made slice by slice: at 10 million, whole, it did not fit.
SLICE_ROWS_MAX: Final = 2_000_000

#: Column names and DuckDB types, in the order of the rows.
Columns = Mapping[str, str]
#: What travels as numbers; all else travels as text and is read by DuckDB.
_NUMBERS: Final = {"BIGINT": np.dtype(np.int64), "BOOLEAN": np.dtype(np.bool_)}


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

    def fill(self, table: str, query: str, *, of: str) -> None:
        """Make a table of a query that is asked slice by slice, by the size of the table ``of``.

        The query takes from each side what ``hash(column) % {slices} = {slice}`` leaves.
        """
        slices = 1 + self.number(f"SELECT count(*) FROM {of}") // SLICE_ROWS_MAX  # noqa: S608 - a name of ours
        for number in range(slices):
            begin = f"INSERT INTO {table}" if number else f"CREATE TABLE {table} AS"
            self.run(f"{begin} {query.format(slices=slices, slice=number)}")

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

    def spell_out(
        self,
        row: Invariant,
        kind: str,
        query: str,
        words: Callable[..., Words],
        *,
        count: str = "count(*)",
    ) -> None:
        """Every row of a query is a violation of this kind: count them, spell out the first.

        ``words`` takes the query's columns. ``count``: where a row stands for several.
        """
        row.found_all(
            kind,
            self.number(f"SELECT coalesce({count}, 0) FROM ({query})"),  # noqa: S608 - our own queries
            [Violation.of(kind, words(*found)) for found in self.first(f"{query} ORDER BY ALL")],
        )

    def table(self, name: str, columns: Columns) -> "Table":
        """Make a table and give what fills it."""
        types = ", ".join(f"{column} {kind} NOT NULL" for column, kind in columns.items())
        self.run(f"CREATE TABLE {name} ({types})")
        return Table(self, name, columns)

    def take(self, table: str, columns: Columns, rows: Iterable[Sequence[Any]]) -> None:
        """Take rows in; there is at least one."""
        values = zip(*rows, strict=True)
        batch = {  # noqa: F841 - the statement names it
            f"c{number}": _array(kind, column)
            for number, (kind, column) in enumerate(zip(columns.values(), values, strict=True))
        }
        chosen = ", ".join(f"CAST(c{n} AS {kind})" for n, kind in enumerate(columns.values()))
        self._connection.execute(f"INSERT INTO {table} SELECT {chosen} FROM batch")  # noqa: S608 - our own names

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

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """One transaction: what is loaded in it is written once, not to the journal first."""
        self.run("BEGIN")
        try:
            yield
        except BaseException:
            self.run("ROLLBACK")
            raise
        self.run("COMMIT")


class Table:
    """Fills one table; use as a context, whose end loads the rest."""

    def __init__(self, spool: Spool, name: str, columns: Columns) -> None:
        self._spool = spool
        self._name = name
        self._columns = columns
        self._rows: list[Sequence[Any]] = []
        #: Takes one row, a value a column.
        self.add = self._rows.append

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._load()

    def checkpoint(self) -> None:
        """Load what is waiting if it is much; call it between rows."""
        if len(self._rows) >= LOAD_ROWS_MAX:
            self._load()

    def _load(self) -> None:
        if self._rows:
            self._spool.take(self._name, self._columns, self._rows)
            self._rows.clear()

    def add_csv(self, chunks: Iterable[bytes]) -> None:
        """Take in CSV; a chunk is whole lines."""
        path = self._spool.folder / f"{self._name}.csv"
        left = iter(chunks)
        while first := next(left, b""):
            size = len(first)
            with path.open("wb") as file:
                file.write(first)
                while size < LOAD_BYTES_MAX and (chunk := next(left, b"")):
                    size += file.write(chunk)
            self._spool.load(self._name, self._columns, path)


def _array(kind: str, values: Sequence[Any]) -> "np.ndarray[Any, Any]":
    """One column as DuckDB reads it."""
    if number := _NUMBERS.get(kind):
        return np.array(values, dtype=number)
    return np.array([str(one) for one in values] if kind == "HUGEINT" else values, dtype=object)
