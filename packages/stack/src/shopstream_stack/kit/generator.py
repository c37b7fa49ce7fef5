"""The stream generator (Go, `bench/load`, mode `sse`) seen from here: orders and reports.

One set of connections serves many orders; each order is answered by one report of what came since
the last `begin`. A report with a miss has no rate.
"""

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from shopstream_stack.errors import StackError

#: What an order may take beyond its own time.
GRACE_SECONDS: Final = 60.0
END_SECONDS_MAX: Final = 20.0
#: Of what it writes to stderr before it ends.
ERROR_BYTES_MAX: Final = 65_536
READ_BYTES: Final = 65_536

Profile = Literal["plain", "events", "shopstream"]
#: By "topic subject": the first and the last sequence that must come.
Sequences = Mapping[str, tuple[int, int]]


class StreamGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Connections with one path, hence one filter."""

    name: str
    path: str


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What streams to hold; see `bench/load/stream_spec.go`. Connection i is of group i modulo."""

    address: str
    secure: bool = False
    host: str = ""
    headers: Mapping[str, str] = {}
    connections: int
    groups: Sequence[StreamGroup]
    profile: Profile
    ramp_per_second: float = 0.0
    #: Threads that read all connections; 0: one for each processor.
    pollers: int = 0
    open_seconds_max: float = 60.0
    slow: int = 0
    reconnect: bool = False
    #: Filters thin the sequences out: only their order is checked.
    sparse: bool = False
    #: The member of the data, a time, that latencies count from; the event's own time when empty.
    moment: str = ""


class Latency(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Milliseconds from the time in the event to the return of the read that brought it."""

    count: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class StreamReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What came since the last `begin`; counts of connections, and `controls`, since the start."""

    open: int
    opened: int
    closed: int
    refused: int
    reconnected: int
    deliveries: int
    others: int
    bytes: int
    ids: int
    comments: int
    controls: dict[str, int]
    seconds: float
    deliveries_per_second: float | None
    steady: Latency
    cut: Latency
    slow: Latency
    resumed: Latency
    lost: int
    doubled: int
    foreign: int
    misses: int
    faults: list[str]
    processor_seconds: float
    wall_seconds: float


class _Order(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    do: str
    expected: Mapping[str, Sequences] | None = None
    seconds_max: float = 0.0
    connections: int = 0


class Generator:
    """The running program. Each method raises StackError when it fails or does not answer."""

    def __init__(self, process: "subprocess.Popen[bytes]", spec: StreamSpec) -> None:
        self._process = process
        self._line = b""
        self._send(spec)
        #: What is known once all streams are open.
        self.opened = self._answer(spec.open_seconds_max + GRACE_SECONDS)

    @property
    def pid(self) -> int:
        """Of the program, for what must be measured or pinned."""
        return self._process.pid

    def begin(self) -> None:
        """Forget the figures; what each connection has had stays known."""
        self._order(_Order(do="begin"))

    def look(self) -> StreamReport:
        """The figures so far; nothing is waited for or compared."""
        return self._order(_Order(do="settle"))

    def settle(self, expected: Mapping[str, Sequences], seconds_max: float) -> StreamReport:
        """Wait until each stream that reads has had all that its group expects, then compare.

        What is expected counts from the first event after the streams were opened.
        """
        return self._order(_Order(do="settle", expected=expected, seconds_max=seconds_max))

    def cut(self, connections: int) -> None:
        """Reset the first so many; each comes back at once with its last id."""
        self._order(_Order(do="cut", connections=connections))

    def stall(self) -> None:
        """Let the slow ones read nothing more."""
        self._order(_Order(do="stall"))

    def release(self) -> None:
        """Let them read again, and come back when they were cut off."""
        self._order(_Order(do="release"))

    def stop(self) -> int:
        """End it; the exit code is 0 only if nothing was ever missed."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            # It may have ended by itself.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            return self._process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            raise StackError("The stream generator does not end") from error

    def _order(self, order: _Order) -> StreamReport:
        self._send(order)
        return self._answer(order.seconds_max + GRACE_SECONDS)

    def _send(self, message: msgspec.Struct) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - for the type: it is a pipe
        try:
            stdin.write(msgspec.json.encode(message) + b"\n")
        except BrokenPipeError:
            raise self._failed() from None

    def _answer(self, seconds_max: float) -> StreamReport:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - as above
        ends = time.monotonic() + seconds_max
        while b"\n" not in self._line:
            left = ends - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                raise StackError(f"The stream generator did not answer within {seconds_max:g} s")
            more = os.read(stdout.fileno(), READ_BYTES)
            if not more:
                raise self._failed()
            self._line += more
        line, _, self._line = self._line.partition(b"\n")
        return msgspec.json.decode(line, type=StreamReport)

    def _failed(self) -> StackError:
        stderr = self._process.stderr
        assert stderr is not None  # noqa: S101 - as above
        self._process.wait(END_SECONDS_MAX)
        said = stderr.read(ERROR_BYTES_MAX).decode(errors="replace").strip()
        return StackError(f"The stream generator failed: {said.removeprefix('load: ')}")


@contextmanager
def generating(program: Path, spec: StreamSpec) -> Iterator[Generator]:
    """The program with all streams open. Raises StackError."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        [program, "sse"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    try:
        yield Generator(process, spec)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                # What could not be written is of no interest any more.
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
