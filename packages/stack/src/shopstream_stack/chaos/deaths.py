"""Which workers have ended though nobody stopped them, as their parents' logs tell.

A parent starts another at once, so that neither pid files nor health show it. It writes a line for
each worker that ends while it does not stop itself; one that is killed with its parent has none.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: What the parents of analytics and of notifications log, and what names the worker in it.
_STARTED: Final = {"worker started": "worker", "stream.worker_started": "slot"}
_ENDED: Final = {"worker ended": "worker", "stream.worker_ended": "slot"}
_EITHER: Final = tuple(f'"{event}"'.encode() for event in (*_STARTED, *_ENDED))


@dataclass(frozen=True, slots=True)
class Death:
    """``log`` is the parent's name; ``code`` the exit code, negative for a signal."""

    log: str
    worker: str
    pid: int | None
    code: int

    def __str__(self) -> str:
        return f"{self.log}: worker {self.worker} ended by itself, exit code {self.code}"


def deaths(logs: Iterable[Path]) -> Iterator[Death]:
    """Every worker that its parent did not stop, killed by a fault or not, in order a log."""
    for path in logs:
        pids: dict[str, int] = {}
        for older in (path.with_suffix(".log.1"), path):
            if older.exists():
                yield from _of(older, path.stem, pids)


def _of(path: Path, name: str, pids: dict[str, int]) -> Iterator[Death]:
    with path.open("rb") as log:
        for line in log:
            if not any(event in line for event in _EITHER):
                continue
            try:
                said = json.loads(line)
            except ValueError:
                continue  # part of a line: its writer was killed
            event = said.get("event")
            if event in _STARTED:
                pids[str(said[_STARTED[event]])] = said["worker_pid"]
            elif event in _ENDED:
                worker = str(said[_ENDED[event]])
                yield Death(name, worker, pids.get(worker), said["code"])
