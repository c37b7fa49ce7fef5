"""The parent of the workers: starts them, listens to them, starts them again.

A worker that dies is started again after a pause that doubles while it keeps dying; the others go
on. A worker that says nothing for `SILENT_SECONDS_MAX` (until its first word `START_SECONDS_MAX`)
hangs and is killed. Workers hold the other end of a socket and end when this process does, however
it ends.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import msgspec

from shopstream_analytics.progress import ITEMS_REFUSED
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.worker.report import Report, decode_report
from shopstream_analytics.worker.sinks import WORKERS, WorkerName
from shopstream_shared.children import Child, Pauses, Silent
from shopstream_shared.health import Unhealthy
from shopstream_shared.logs import get_logger

SILENT_SECONDS_MAX: Final = 30.0
#: Imports take seconds of processor time: starved of it, a worker killed at 30 s never came up.
START_SECONDS_MAX: Final = 180.0
#: A report older than this says nothing about now.
FRESH_SECONDS_MAX: Final = 10.0
#: From SIGTERM to SIGKILL; below the promised 10 s for the whole process.
STOP_SECONDS_MAX: Final = 8.0

log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One worker and what it last said.

    ``name`` tells it in health, metrics and logs; ``command`` starts it, its last argument, the
    descriptor for reports, left out.
    """

    name: str
    command: Sequence[str]
    report: Report | None = None
    starts: int = 0
    _child: Child | None = None
    _reported_at: float = 0.0
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Keep the worker alive until told to stop."""
        pauses = Pauses()
        while not self._stopping.is_set():
            born = time.monotonic()
            try:
                code = await self._live()
            except OSError as error:
                # No memory, no descriptor: the other workers go on, and so does the trying.
                log.error("worker not started", worker=self.name, error=type(error).__name__)  # noqa: TRY400 - no trace to show
                pause = pauses.after(0.0)
            else:
                if self._stopping.is_set():
                    return
                pause = pauses.after(time.monotonic() - born)
                log.warning("worker ended", worker=self.name, code=code, pause_seconds=pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    def stop(self) -> None:
        """Ask the worker to end."""
        self._stopping.set()
        if self._child is not None:
            self._child.signal(signal.SIGTERM)

    @property
    def pid(self) -> int | None:
        """None while there is no process."""
        return None if self._child is None else self._child.pid

    @property
    def patience(self) -> float:
        """How many seconds it may say nothing."""
        return START_SECONDS_MAX if self.report is None else SILENT_SECONDS_MAX

    async def probe(self) -> str:
        """For health. Raises Unhealthy with the worker's own reason."""
        report = self.report
        if self.pid is None or report is None:
            raise Unhealthy("not running" if self.pid is None else "starting")
        if time.monotonic() - self._reported_at > FRESH_SECONDS_MAX:
            raise Unhealthy("no report; it hangs")
        if report.state != "running":
            raise Unhealthy(f"{report.state}: {report.reason}")
        if report.trouble is not None:
            raise Unhealthy(report.trouble)
        said = f"{len(report.lags)} partitions, {sum(lag_of(report))} behind"
        refused = report.counters.get(ITEMS_REFUSED, 0)
        return f"{said}; {refused} events left out for good" if refused else said

    async def _live(self) -> int:
        child = await Child.start(self.command)
        self._child = child
        self.starts += 1
        self._reported_at = time.monotonic()
        log.info("worker started", worker=self.name, worker_pid=child.pid)
        listener = asyncio.create_task(self._listen(child))
        try:
            return await self._end_of(child)
        finally:
            self._child = None
            self.report = None
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _end_of(self, child: Child) -> int:
        ended = asyncio.create_task(child.ended())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ended.done():
            # Also when the stop came between the start and its pid being known.
            self.stop()
            await asyncio.wait((ended,), timeout=STOP_SECONDS_MAX)
        if not ended.done():
            log.error("worker killed", worker=self.name, reason="did not stop")
            child.signal(signal.SIGKILL)
        return await ended

    async def _listen(self, child: Child) -> None:
        try:
            async for line in child.lines(lambda: self.patience):
                self._hear(line)
        except Silent:
            log.error("worker killed", worker=self.name, reason="silent")  # noqa: TRY400 - no trace to show
        else:
            # Its line ends with it; whoever lives on without one cannot be heard any more.
            await asyncio.sleep(STOP_SECONDS_MAX)
        child.signal(signal.SIGKILL)

    def _hear(self, line: bytes) -> None:
        try:
            self.report = decode_report(line)
        except msgspec.MsgspecError:
            # Half a line, cut when our buffer was full; the next one is whole.
            return
        self._reported_at = time.monotonic()


@dataclass(frozen=True, slots=True)
class Supervisor:
    """All workers of this process."""

    workers: Sequence[WorkerProcess]

    @classmethod
    def of(cls, settings: AnalyticsSettings) -> Self:
        """As many workers a sink as are set; the first has the sink's own name."""
        return cls(
            tuple(
                _worker(sink, number, settings.instance_name)
                for sink in WORKERS
                for number in range(1, settings.workers + 1)
            )
        )

    async def run(self) -> None:
        """Until stopped; returns when no worker is left."""
        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(worker.run(), name=f"worker {worker.name}")

    def stop(self) -> None:
        """Ask all workers to end."""
        for worker in self.workers:
            worker.stop()


def _worker(sink: WorkerName, number: int, instance: str) -> WorkerProcess:
    # Sinks have groups of their own, so the name need not tell the sink; logs of the broker do.
    member = f"{instance}-{sink}-{number}"
    return WorkerProcess(
        name=sink if number == 1 else f"{sink}-{number}",
        command=(sys.executable, "-m", "shopstream_analytics.worker", sink, member),
    )


def lag_of(report: Report) -> list[int]:
    """Offsets behind the stable end, a number a partition whose end is known."""
    return [max(0, lag.end - lag.durable) for lag in report.lags if lag.end is not None]
