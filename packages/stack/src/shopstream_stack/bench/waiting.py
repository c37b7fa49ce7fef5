"""Waiting for a condition, bounded."""

import time
from collections.abc import Callable
from typing import Final

from shopstream_stack.errors import StackError

POLL_SECONDS: Final = 0.05


def deadline(seconds_max: float, what: str) -> Callable[[], None]:
    """A function that raises StackError once ``seconds_max`` are over."""
    end = time.monotonic() + seconds_max

    def in_time() -> None:
        if time.monotonic() > end:
            raise StackError(f"Not within {seconds_max:g} s: {what}")

    return in_time


def wait_until(holds: Callable[[], bool], what: str, seconds_max: float) -> None:
    """Return when ``holds`` does. Raises StackError when it does not in time."""
    in_time = deadline(seconds_max, what)
    while not holds():
        in_time()
        time.sleep(POLL_SECONDS)
