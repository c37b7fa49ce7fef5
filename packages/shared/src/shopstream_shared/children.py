"""Processes of a process: one life each, and the line between the two.

Parent and child hold one end each of a socket. The child tells how it does, a line at a time; the
end of the socket is the end of the other side, also when that was killed.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

#: A line is far smaller; a longer one is a fault and is not read on.
LINE_BYTES_MAX: Final = 65_536
#: From the parent's end to the child's hard end; what a child stores is exact at any moment.
ORPHAN_SECONDS_MAX: Final = 6.0
PAUSE_FIRST_SECONDS: Final = 0.5
PAUSE_LAST_SECONDS: Final = 10.0
#: A child that lived so long starts with the first pause again.
GOOD_LIFE_SECONDS: Final = 30.0

_PR_SET_PDEATHSIG: Final = 1


class Silent(Exception):
    """The child says nothing: it hangs."""


@dataclass(slots=True)
class Pauses:
    """How long to wait before a child is started again: longer while it keeps dying."""

    _next: float = PAUSE_FIRST_SECONDS

    def after(self, life_seconds: float) -> float:
        """The pause after a life of so many seconds."""
        pause = PAUSE_FIRST_SECONDS if life_seconds > GOOD_LIFE_SECONDS else self._next
        self._next = min(pause * 2, PAUSE_LAST_SECONDS)
        return pause


class Child:
    """One life of a child process."""

    def __init__(self, process: Process, line: socket.socket) -> None:
        self._process = process
        self._line = line
        self.born = time.monotonic()

    @classmethod
    async def start(cls, argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Self:
        """Start the program; its last argument is the descriptor of its end of the line."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv, str(theirs.fileno()), env=environ, pass_fds=[theirs.fileno()]
                )
            except BaseException:
                ours.close()
                raise
        return cls(process, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def lines(self, patience: Callable[[], float]) -> AsyncIterator[bytes]:
        """What the child says, until it ends. Raises Silent after ``patience()`` seconds."""
        reader, writer = await asyncio.open_connection(sock=self._line.dup(), limit=LINE_BYTES_MAX)
        try:
            while True:
                try:
                    async with asyncio.timeout(patience()):
                        line = await reader.readline()
                except TimeoutError:
                    raise Silent from None
                except ConnectionError:
                    # It ended without having read all that it was told.
                    return
                except ValueError:
                    # Longer than LINE_BYTES_MAX: halves of lines, cut when a buffer was full.
                    continue
                if not line:
                    return
                yield line
        finally:
            writer.close()

    def say(self, line: bytes) -> None:
        """Tell the child; a child that does not listen misses it and never holds us up."""
        with contextlib.suppress(OSError):
            self._line.send(line)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing when the child has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def ended(self) -> int:
        """The exit code (negative: the signal), once the child has ended."""
        code = await self._process.wait()
        self._line.close()
        return code


def follow_parent(
    parent: socket.socket,
    on_end: Callable[[], None],
    on_line: Callable[[bytes], None] = lambda _line: None,
    *,
    signal_too: bool = False,
) -> None:
    """Call ``on_end`` when the parent ends, and end hard if that has not helped in time.

    Both are called in a thread, ``on_line`` with each line that the parent says. ``signal_too``:
    the kernel sends SIGTERM as well, a moment earlier, on Linux.
    """
    if signal_too and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    def watch() -> None:
        with contextlib.suppress(OSError), parent.makefile("rb") as lines:
            while line := lines.readline(LINE_BYTES_MAX):
                on_line(line)
        on_end()
        time.sleep(ORPHAN_SECONDS_MAX)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
