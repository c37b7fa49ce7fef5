"""Which workers have ended though nobody stopped them, as their parents' logs tell.

A parent starts another at once, so that neither pid files nor health show it. It writes a line for
each worker that ends while it does not stop itself; one that is killed with its parent has none.

A worker of analytics that ends well by itself has seen that its topics are others now, which is its
way to begin anew (docs/topics.md): no death while topics are made again.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
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
    at: datetime

    def __str__(self) -> str:
        return f"{self.log}: worker {self.worker} ended by itself, exit code {self.code}"


@dataclass(frozen=True, slots=True)
class Meant:
    """What is no death: of workers that a fault hit, and while topics were made again."""

    hit: Collection[int] = ()
    made_again: Collection[tuple[datetime, datetime]] = ()

    def covers(self, one: Death) -> bool:
        moved = any(begun <= one.at <= ended for begun, ended in self.made_again)
        return one.pid in self.hit or (one.code == 0 and moved)


NOTHING_MEANT: Final = Meant()


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
                at = datetime.fromisoformat(said["timestamp"])
                yield Death(name, worker, pids.get(worker), said["code"], at)
