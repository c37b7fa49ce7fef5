"""What all commands share: the settings, the system under its lock, where they print."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer
from rich.console import Console

from shopstream_stack.console import Reporter, reporting, standard_output
from shopstream_stack.errors import StackError
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System

EXIT_USAGE: Final = 2
# As long as another command may build and start everything.
LOCK_SECONDS_MAX: Final = 2400.0
LOCK_POLL_SECONDS: Final = 0.2

out = standard_output()
err = Console(stderr=True)


def load_settings() -> StackSettings:
    """The settings; where a variable does not fit, a message and the exit code of a wrong call."""
    try:
        return StackSettings.load()
    except StackError as error:
        complain(error)
        raise typer.Exit(EXIT_USAGE) from None


def complain(error: Exception) -> None:
    """Say on stderr what is wrong, in its own words."""
    err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def locked_system(settings: StackSettings) -> Iterator[System]:
    """The system, with no other command at work on its data folder.

    Raises StackError when another command does not end within LOCK_SECONDS_MAX.
    """
    name = hashlib.sha256(str(settings.data).encode()).hexdigest()[:16]
    # Beside the data folder's content, which `reset` deletes while it holds the lock.
    path = settings.cache / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        with reporting(out) as reporter:
            _wait_for(lock, reporter)
            yield System(settings, reporter)
    finally:
        os.close(lock)


def _wait_for(lock: int, reporter: Reporter) -> None:
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                reporter.say("Another shopstream command is at work here; waiting for it")
                told = True
            if time.monotonic() > deadline:
                raise StackError("Another shopstream command does not come to an end") from None
            time.sleep(LOCK_POLL_SECONDS)
        else:
            return
