"""Which of several workers commits for the group: whoever holds the lock.

The kernel takes a file lock from a process that ends, however it ends, so there is nothing to
expire and nobody to ask. Only what lag shows hangs on it.
"""

import fcntl
from pathlib import Path
from typing import BinaryIO

from shopstream_shared.logs import get_logger

_log = get_logger(__name__)


class CommitTurn:
    """``path`` None: there is no other worker, the turn is always ours."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def is_ours(self) -> bool:
        """Take the turn if nobody has it; from one thread only."""
        if self._path is None or self._file is not None:
            return True
        # Open for as long as the turn is ours, which is as long as the process lives.
        file = self._path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._file = file
        _log.info("stream.commits_for_group")
        return True
