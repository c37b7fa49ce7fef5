"""One worker process from its start to its end, as the parent sees it."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from shopstream_notifications import shared_metrics
from shopstream_notifications.members import Member, Members, Report, State, decode_report, encode
from shopstream_notifications.run_dir import RunDir
from shopstream_shared.children import Child, Silent
from shopstream_shared.logs import get_logger
from shopstream_shared.settings import child_environ

#: A worker that says nothing for so long hangs. With its start it is back before clients, who call
#: a silent stream dead after two heartbeats, have to find out.
SILENT_SECONDS_MAX: Final = 15.0
#: The same until its first word: starved of a processor, imports take long.
FIRST_WORD_SECONDS_MAX: Final = 120.0
#: A report older than this is shown as the worker's trouble.
LATE_SECONDS: Final = 4.0

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Orders:
    """What every worker is started with."""

    program: tuple[str, ...] = (sys.executable, "-m", "shopstream_notifications.worker")
    #: Settings that the parent has decided, by their variables.
    environ: tuple[tuple[str, str], ...] = ()
    silent_seconds_max: float = SILENT_SECONDS_MAX


class Life:
    """``on_change`` is called when its state or its trouble is another."""

    def __init__(
        self, slot: int, child: Child, orders: Orders, on_change: Callable[[], None]
    ) -> None:
        self.slot = slot
        self.leaving = False
        self._child = child
        self._silent_seconds_max = orders.silent_seconds_max
        self._on_change = on_change
        self._report: Report | None = None
        self._heard_at = time.monotonic()
        self._serves = asyncio.Event()

    @classmethod
    async def begin(
        cls, slot: int, folder: RunDir, orders: Orders, on_change: Callable[[], None]
    ) -> "Life":
        """Start the program. Raises OSError."""
        environ = child_environ(**{shared_metrics.VARIABLE: str(folder.metrics)})
        environ.update(orders.environ)
        child = await Child.start((*orders.program, str(slot), str(folder.path)), environ)
        _log.info("stream.worker_started", slot=slot, worker_pid=child.pid)
        return cls(slot, child, orders, on_change)

    async def live(self) -> int:
        """Listen to the worker until it has ended; its exit code. One that hangs is killed."""
        try:
            async for line in self._child.lines(self._patience):
                self._hear(line)
        except Silent:
            _log.error("stream.worker_killed", slot=self.slot, reason="silent")
            self._child.signal(signal.SIGKILL)
        return await self._child.ended()

    async def serves(self) -> None:
        """Return once the worker has said that it does its work."""
        await self._serves.wait()

    def leave(self) -> None:
        """Ask it to drain and end."""
        self.leaving = True
        self._child.signal(signal.SIGTERM)
        self._on_change()

    def kill(self) -> None:
        self._child.signal(signal.SIGKILL)

    def tell(self, picture: Members) -> None:
        self._child.say(encode(picture))

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self._child.born

    def as_member(self) -> Member:
        """How it does, by its last word."""
        report = self._report
        return Member(
            slot=self.slot,
            pid=self._child.pid,
            state=self._state(),
            streams=0 if report is None else report.streams,
            trouble=self._trouble(report),
        )

    def _state(self) -> State:
        if self.leaving:
            return "leaving"
        return "serving" if self._serves.is_set() else "starting"

    def _trouble(self, report: Report | None) -> str | None:
        silent_seconds = time.monotonic() - self._heard_at
        if report is not None and silent_seconds > LATE_SECONDS:
            return f"no report for {silent_seconds:.0f} s"
        return None if report is None else report.trouble

    def _patience(self) -> float:
        return FIRST_WORD_SECONDS_MAX if self._report is None else self._silent_seconds_max

    def _hear(self, line: bytes) -> None:
        try:
            report = decode_report(line)
        except msgspec.MsgspecError:
            # Half a line, cut when the buffer was full; the next one is whole.
            return
        self._heard_at = time.monotonic()
        before, self._report = self._report, report
        if report.trouble is None:
            self._serves.set()
        if before is None or before.trouble != report.trouble:
            self._on_change()
