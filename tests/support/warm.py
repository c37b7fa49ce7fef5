"""Processes of our services without their imports: forked from one that has them already.

The imports of a service take two seconds of a processor, more than most tests that start one. What
a fork runs is the program's own `main` with its own arguments, environment and descriptors; the
commands as they are installed start in `tests/e2e` and `tests/integration/test_api_process.py`.
"""

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from tests.support.components import machine_environ

PROGRAM: Final = Path(__file__).with_name("forks.py")
START_SECONDS_MAX: Final = 60.0
END_SECONDS_MAX: Final = 10.0


class Fork:
    """A started service, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, report: int) -> None:
        self._report = os.fdopen(report, "rb", buffering=0)
        self.returncode: int | None = None
        self.pid = self._line(START_SECONDS_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def poll(self) -> int | None:
        """The exit code (negative: the signal), None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once it has ended. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self.returncode = self._line(timeout)
            self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _line(self, timeout: float | None) -> int:
        if not select.select([self._report], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("service", timeout or 0)
        return int(self._report.readline())


class Forks:
    """The process that holds the imports of one module."""

    def __init__(self, module: str) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", PROGRAM, module, str(theirs.fileno())],
                env=machine_environ(),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Ctrl-C in a terminal is for the tests; they end what they have started.
                start_new_session=True,
            )
        atexit.register(self.close)

    def start(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        output: int | None = None,
        patches: Sequence[str] = (),
    ) -> Fork:
        """Start the service, as with these arguments and nothing but this environment.

        ``output`` is the descriptor for what it writes; without one nobody reads it. ``patches``
        are functions that it calls first, of `tests.support.sabotage` or as `module:function` of
        another module of `tests.support`.
        """
        wanted = {"argv": [*argv], "environ": {**environ}, "patches": [*patches]}
        request = json.dumps(wanted).encode()
        ours, theirs = os.pipe()
        with os.fdopen(theirs, "wb"), Path(os.devnull).open("wb") as nowhere:
            written = nowhere.fileno() if output is None else output
            socket.send_fds(self._link, [request], [written, theirs])
        return Fork(ours)

    def close(self) -> None:
        self._link.close()
        self._process.wait(END_SECONDS_MAX)


forks = functools.cache(Forks)
