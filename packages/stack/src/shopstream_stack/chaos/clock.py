"""Runs a program of ours under a clock that can be moved while it runs.

``python -m shopstream_stack.chaos.clock FILE PROGRAM [ARGUMENT…]``: FILE holds how many seconds the
program's clock is ahead, as one number of 8 bytes, mapped, so that each look at the clock costs a
read of memory. It moves what asks `SystemClock`, and the ids of `Uuid7Source`, which hold the
millisecond they were made in: these two are all that our code reads the hour from. What
measures durations (monotonic clocks) does not move, as with a real clock that is set.
"""

import mmap
import runpy
import struct
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import uuid_utils

from shopstream_shared.clock import SystemClock, Uuid7Source, epoch_ms

MODULE: Final = "shopstream_stack.chaos.clock"
_SECONDS: Final = struct.Struct("=d")
#: In a millisecond.
_NANOSECONDS: Final = 1_000_000


def move(path: Path, seconds: float) -> None:
    """Set how far ahead the clock of whoever runs under this file is; makes the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In place: a file put in its stead would not be the one that is mapped.
    with path.open("r+b" if path.exists() else "wb", buffering=0) as file:
        file.write(_SECONDS.pack(seconds))


def under(path: Path, program: tuple[str, ...]) -> tuple[str, ...]:
    """The command that runs ``program`` under the clock of ``path``."""
    return (sys.executable, "-m", MODULE, str(path), *program)


def main(arguments: list[str]) -> None:
    """Move the clock of this process, then be the program."""
    path, program, *rest = arguments
    with Path(path).open("rb") as file:
        ahead = mmap.mmap(file.fileno(), _SECONDS.size, access=mmap.ACCESS_READ)

    def now(self: SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=_SECONDS.unpack(ahead)[0])

    def new_id(self: Uuid7Source) -> str:
        nanoseconds = epoch_ms(SystemClock().now()) * _NANOSECONDS
        return str(uuid_utils.uuid7(nanoseconds=nanoseconds))

    SystemClock.now = now  # type: ignore[method-assign]  # what this module is for
    Uuid7Source.new_id = new_id  # type: ignore[method-assign]  # as above
    sys.argv = [program, *rest]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
