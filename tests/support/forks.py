"""A program that imports a service once and forks it for each start that a test asks for.

`tests.support.warm` runs it as `python -P forks.py MODULE DESCRIPTOR`; the descriptor is its end of
a socket. A request is one message, JSON of `argv`, `environ` and `patches` (functions of
`tests.support.sabotage`, or `module:function` of `tests.support`, to call first), with two
descriptors: one for standard output and error, and where its pid and, when it has ended, its exit
code are written, each on a line. A closed socket ends the program. What it has started ends, by
SIGKILL, once nobody can read its report: a test run that was killed leaves nothing behind.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

REQUEST_BYTES_MAX: Final = 128 * 1024


def run(module: str, link: socket.socket) -> None:
    """Fork for each request; returns in the forks alone, as the service that has ended."""
    importlib.import_module(module)
    # No collection in a fork goes through what all of them share, the one at its end neither.
    gc.collect()
    gc.freeze()
    # What waits for a service has nobody who waits for it.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(link, REQUEST_BYTES_MAX, 2)
        if not message:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            output, report = descriptors
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            service = os.fork()
            if service:
                _tell_the_end(service, report)
            os.close(report)
            link.close()
            request = json.loads(message)
            _become(request)
            _patch(request["patches"])
            _main(module)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _tell_the_end(service: int, report: int) -> NoReturn:
    with contextlib.suppress(BrokenPipeError):
        os.write(report, f"{service}\n".encode())
    if abandoned(service, report):
        os.kill(service, signal.SIGKILL)
    _, status = os.waitpid(service, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def abandoned(service: int, report: int) -> bool:
    """Wait until the service, a child, has ended, or nobody can read the report any more."""
    if not hasattr(os, "pidfd_open"):
        return False
    poll = select.poll()
    # That its reader has gone is said without being asked for.
    poll.register(report, 0)
    ended = os.pidfd_open(service)
    poll.register(ended, select.POLLIN)
    return ended not in dict(poll.poll())


def _become(request: dict[str, Any]) -> None:
    """Give the fork what a new process would have had from its start."""
    os.environ.clear()  # noqa: TID251 - a new process's environment, not a setting
    os.environ.update(request["environ"])  # noqa: TID251 - the same
    sys.argv[:] = request["argv"]


def _patch(names: list[str]) -> None:
    if names:
        sys.path.append(str(Path(__file__).parents[2]))
        for name in names:
            module, _, function = name.rpartition(":")
            support = importlib.import_module(f"tests.support.{module or 'sabotage'}")
            getattr(support, function)()


def _main(module: str) -> None:
    """As a console script calls it, or `python -m` for a package with a `__main__`."""
    package, _, name = module.rpartition(".")
    if name == "__main__":
        del sys.modules[module]
        runpy.run_module(package, run_name="__main__", alter_sys=True)
    else:
        sys.exit(sys.modules[module].main())


if __name__ == "__main__":
    run(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
