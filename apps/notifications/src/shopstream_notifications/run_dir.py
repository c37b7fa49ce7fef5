"""The private folder of one parent: its workers' metrics and the lock of who commits.

Left behind by a parent that was killed, it is removed by the last of its workers, or by the next
parent that starts on this machine; never while a process that writes there lives. Who lives is told
by locks on two files, which the kernel takes from the dead.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: With the user's number, so that nobody sweeps another's.
PREFIX: Final = "shopstream-notifications-{uid}-"
#: Looked at by one start; more are left to the next.
SWEPT_MAX: Final = 100
_OWNER: Final = "owner"
_WORKERS: Final = "workers"


@dataclass(frozen=True, slots=True)
class RunDir:
    """``path`` is readable by this user alone."""

    path: Path

    @property
    def metrics(self) -> Path:
        return self.path / "metrics"

    @property
    def commit_lock(self) -> Path:
        return self.path / "commits"

    @contextmanager
    def used_by_worker(self) -> Iterator[None]:
        """Keep it while the block runs; after it, remove what a dead parent has left."""
        with (self.path / _WORKERS).open("ab") as workers:
            fcntl.flock(workers, fcntl.LOCK_SH)
            try:
                yield
            finally:
                fcntl.flock(workers, fcntl.LOCK_UN)
                self.remove_unused()

    def remove_unused(self) -> None:
        """Delete it unless a process of it lives, or it is just being made."""
        with contextlib.suppress(OSError), contextlib.ExitStack() as files:
            for name in (_OWNER, _WORKERS):
                file = files.enter_context((self.path / name).open("r+b"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self.path)


@contextmanager
def run_dir() -> Iterator[RunDir]:
    """A fresh folder for as long as the block runs."""
    prefix = PREFIX.format(uid=os.getuid())
    _sweep(prefix)
    made = RunDir(Path(tempfile.mkdtemp(prefix=prefix)))
    made.metrics.mkdir()
    (made.path / _WORKERS).touch()
    with (made.path / _OWNER).open("wb") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield made
        finally:
            fcntl.flock(owner, fcntl.LOCK_UN)
            made.remove_unused()


def _sweep(prefix: str) -> None:
    """Remove what parents that were killed have left."""
    found = sorted(Path(tempfile.gettempdir()).glob(f"{prefix}*"))
    for left in found[:SWEPT_MAX]:
        RunDir(left).remove_unused()
