"""A program beside which something is measured: started with one line of input, always ended."""

import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from shopstream_stack.errors import StackError

#: Imports, and a first look at the broker.
READY_SECONDS_MAX: Final = 30.0
#: The line that a peer prints once it can begin.
READY: Final = "ready"


def say_ready() -> None:
    """For the peer itself: the line that `running_peer` waits for."""
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()


@contextmanager
def running_peer(
    name: str, command: Sequence[str], line: str, *, ready_seconds_max: float = READY_SECONDS_MAX
) -> Iterator[subprocess.Popen[str]]:
    """A peer that has said READY; killed at the end.

    ``line`` is what it has to know. It goes to its input, for the arguments of a process are shown
    to everyone and an address may hold a password. ``name`` begins what is complained of, as
    "The plain loop". Raises StackError when it does not start in time or ends by itself.
    """
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None  # noqa: S101 - for the type: they are pipes
            assert process.stdout is not None  # noqa: S101 - as above
            with suppress(BrokenPipeError):  # it has ended: nothing will be read either
                process.stdin.write(f"{line}\n")
                process.stdin.flush()
            said = select.select([process.stdout], [], [], ready_seconds_max)[0]
            if not said or process.stdout.readline().strip() != READY:
                raise StackError(f"{name} did not start")
            yield process
            if process.poll() is not None:
                raise StackError(f"{name} ended by itself")
        finally:
            process.kill()
