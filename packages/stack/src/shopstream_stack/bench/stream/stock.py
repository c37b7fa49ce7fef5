"""The stock server as a process beside the service, and what is measured of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shopstream_stack import health
from shopstream_stack.bench import stock_server
from shopstream_stack.bench.peer import READY_SECONDS_MAX, running_peer
from shopstream_stack.bench.stream.place import StreamPlace
from shopstream_stack.bench.waiting import wait_until
from shopstream_stack.kit.generator import Generator, StreamGroup
from shopstream_stack.ports import LOOPBACK, PortReservations
from shopstream_stack.process import NotHealthyError

GROUPS: Final = (StreamGroup(name="all", path=stock_server.PATH),)


@contextmanager
def stock_serving(place: StreamPlace, ports: PortReservations) -> Iterator[tuple[int, int]]:
    """Pid and port of a running stock server; the service is stopped for it. Raises StackError."""
    place.stop()
    port = ports.take()
    command = (sys.executable, "-m", stock_server.__name__)
    with running_peer("The stock server", command, f"{port} {place.brokers}") as process:
        wait_until(lambda: _listens(port), "the stock server listens", READY_SECONDS_MAX)
        place.place_server(process.pid, alone=True)
        yield process.pid, port


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
