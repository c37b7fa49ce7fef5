"""The stock server as a process beside the service, and what is measured of it."""

import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shopstream_stack import health
from shopstream_stack.bench import stock_server
from shopstream_stack.bench.stream.place import StreamPlace
from shopstream_stack.bench.waiting import wait_until
from shopstream_stack.errors import StackError
from shopstream_stack.kit.generator import Generator, StreamGroup
from shopstream_stack.ports import LOOPBACK, PortReservations
from shopstream_stack.process import NotHealthyError

READY_SECONDS_MAX: Final = 30.0
GROUPS: Final = (StreamGroup(name="all", path=stock_server.PATH),)


@contextmanager
def stock_serving(place: StreamPlace, ports: PortReservations) -> Iterator[tuple[int, int]]:
    """Pid and port of a running stock server; the service is stopped for it. Raises StackError."""
    place.stop()
    port = ports.take()
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", stock_server.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdin is not None  # noqa: S101 - for the type: they are pipes
            assert process.stdout is not None  # noqa: S101 - as above
            process.stdin.write(f"{port} {place.brokers}\n")
            process.stdin.flush()
            ready = select.select([process.stdout], [], [], READY_SECONDS_MAX)[0]
            if not ready or process.stdout.readline().strip() != stock_server.READY:
                raise StackError("The stock server did not start")
            wait_until(lambda: _listens(port), "the stock server listens", READY_SECONDS_MAX)
            place.place_server(process.pid, alone=True)
            yield process.pid, port
        finally:
            process.kill()


@contextmanager
def stock_streams(place: StreamPlace, port: int, connections: int) -> Iterator[Generator]:
    """Open streams of it. Raises StackError."""
    address = f"{LOOPBACK}:{port}"
    with place.streams(connections, GROUPS, profile="events", address=address) as generator:
        yield generator


def _listens(port: int) -> bool:
    try:
        health.listening(port)
    except NotHealthyError:
        return False
    return True
