"""Ports: who holds one, and free ones that stay ours.

Free ports are taken below the kernel's ephemeral range (32768 and up on Linux). In that range a
client that retries a stopped server's port can connect to itself and so hold the port against
the server's return; a broker that is stopped and started again in a test would then not come up.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from shopstream_stack.errors import StackError

LOOPBACK: Final = "127.0.0.1"
FREE_PORT_FIRST: Final = 18_000
FREE_PORT_LAST: Final = 31_999
FREE_PORT_TRIES_MAX: Final = 500


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` on every local address now.

    The IPv6 loopback counts too: a program there, as development servers like it, would answer
    those who ask for `localhost` in our place.
    """
    places = ((socket.AF_INET, ""), (socket.AF_INET, LOOPBACK), (socket.AF_INET6, "::1"))
    return all(_can_bind(family, host, port) for family, host in places)


def _can_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do: connections of an earlier run in TIME_WAIT do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        if error.errno in {errno.EADDRINUSE, errno.EACCES}:
            return False
        if family == socket.AF_INET6:
            return True  # a machine without IPv6
        raise
    return True


def holder_of(port: int) -> str:
    """Name the program that listens on `port`, as well as this user may know it."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "another program"
    for connection in connections:
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address.port == port:
            if connection.pid is None:
                break
            return _describe(connection.pid)
    return "another program"


def _describe(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline())[:80] or process.name()
    except psutil.Error:
        return f"process {pid}"
    return f"process {pid} ({command})"


class PortReservations:
    """Free ports, kept from other runs of this code until `close`.

    A reservation is a lock on a small file, so it ends with the process that holds it.
    """

    def __init__(self, first: int = FREE_PORT_FIRST, last: int = FREE_PORT_LAST) -> None:
        self._range = (first, last)
        self._locks: dict[int, int] = {}
        self._folder = Path(tempfile.gettempdir()) / f"shopstream-ports-{os.getuid()}"

    def take(self) -> int:
        """Return a free port below the ephemeral range; raises StackError when none is found."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for _ in range(FREE_PORT_TRIES_MAX):
            port = random.randint(*self._range)  # noqa: S311 - no secret
            if port not in self._locks and self._lock(port):
                return port
        raise StackError(
            f"No free port between {self._range[0]} and {self._range[1]} "
            f"in {FREE_PORT_TRIES_MAX} tries"
        )

    def close(self) -> None:
        """Give all ports back."""
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()

    def _lock(self, port: int) -> bool:
        lock = os.open(self._folder / str(port), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        if not is_free(port):
            os.close(lock)
            return False
        self._locks[port] = lock
        return True


@contextmanager
def reserved_ports() -> Iterator[PortReservations]:
    """Reservations for the length of a block."""
    reservations = PortReservations()
    try:
        yield reservations
    finally:
        reservations.close()
