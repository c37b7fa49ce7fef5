"""Rows sorted by key, however many: sorted runs on disk, merged as they are read.

A row is any tuple that begins with its key's parts, all text; rows of one key come together, in the
order in which their runs were written.
"""

import heapq
import marshal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

#: So many runs are open at a time while they are merged; more are joined first.
RUNS_OPEN_MAX: Final = 128
_ROWS_A_BLOCK: Final = 256
_LENGTH_BYTES: Final = 4

Row = tuple[Any, ...]


def _key(row: Row) -> tuple[str, str]:
    return row[0], row[1]


@dataclass(slots=True)
class Spill:
    """Runs in a folder that is ours alone; nothing is removed but what was joined."""

    folder: Path
    runs: list[Path] = field(default_factory=list)
    _number: int = 0

    def add_run(self, rows: Iterable[Row]) -> None:
        """Take rows in, sorting them in memory."""
        self._write(sorted(rows, key=_key))

    def rows(self) -> Iterator[Row]:
        """All rows in the order of their keys."""
        while len(self.runs) > RUNS_OPEN_MAX:
            joined, self.runs = self.runs[:RUNS_OPEN_MAX], self.runs[RUNS_OPEN_MAX:]
            self._write(_merged(joined), first=True)
            for path in joined:
                path.unlink()
        return _merged(self.runs)

    def _write(self, rows: Iterable[Row], *, first: bool = False) -> None:
        self._number += 1
        path = self.folder / f"{self._number:08d}.run"
        with path.open("wb") as file:
            for block in _blocks(rows):
                # Not msgpack: counters may be larger than 64 bits.
                body = marshal.dumps(block)
                file.write(len(body).to_bytes(_LENGTH_BYTES) + body)
        self.runs.insert(0 if first else len(self.runs), path)


def _merged(runs: Iterable[Path]) -> Iterator[Row]:
    return heapq.merge(*map(_read, runs), key=_key)


def _read(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        while length := file.read(_LENGTH_BYTES):
            yield from marshal.loads(file.read(int.from_bytes(length)))  # noqa: S302 - our own file


def _blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    block: list[Row] = []
    for row in rows:
        block.append(row)
        if len(block) == _ROWS_A_BLOCK:
            yield block
            block = []
    if block:
        yield block
