"""The life of a worker: wait for what it needs, run the Faust app, end in order.

Away at start, the broker, the topics or the store only make it wait, with the reason in its report.
While it runs, a store that is away holds the lanes back; anything else that goes wrong ends the
process, and the parent starts a new one at the sink's checkpoints. A wrong epoch or a log that lost
what is needed halts it: it stays, unhealthy, without consuming.
"""

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from shopstream_analytics.consumer.app import BatchApp, make_app
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.progress import Progress
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import Halted, Sink, SinkUnavailable
from shopstream_analytics.worker.report import REPORT_SECONDS, Lag, Report, State, encode_report
from shopstream_analytics.worker.sinks import WorkerName, group_of, open_sink
from shopstream_analytics.worker.topics import BrokerUnavailable, describe
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.logs import get_logger
from shopstream_shared.topics import STREAM_TOPICS

#: Between two looks for what is missing at start.
START_RETRY_SECONDS: Final = 1.0
#: Between two looks at the topics' ids and at the sink while running.
WATCH_SECONDS: Final = 5.0
#: How long records may wait on the log, with room in the lanes, before none having come is a fault.
STUCK_SECONDS_MAX: Final = 45.0
#: Storing what is open, then leaving the group: together below the promised 10 s.
CLOSE_SECONDS_MAX: Final = 4.0
LEAVE_SECONDS_MAX: Final = 3.0

log = get_logger(__name__)


class WorkerFailed(Exception):
    """The worker cannot go on; the process ends with code 1."""


@dataclass(slots=True)
class Worker:
    """One sink's worker. ``reports`` is where the parent listens, None when there is none."""

    name: WorkerName
    settings: AnalyticsSettings
    reports: socket.socket | None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    progress: Progress = field(default_factory=Progress)
    _state: State = "waiting"
    _reason: str | None = "starting"
    _app: BatchApp | None = None

    async def run(self) -> None:
        """Until `stop` is set. Raises WorkerFailed."""
        reporter = asyncio.create_task(self._report_on(), name="reports")
        try:
            async with open_sink(self.name, self.settings, self.progress) as sink:
                await self._run_with(sink)
        finally:
            reporter.cancel()

    async def _run_with(self, sink: Sink) -> None:
        try:
            if not await self._wait_until_ready(sink):
                return
            await self._consume(sink)
        except Halted as error:
            log.error("halted", reason=error.reason, detail=str(error))  # noqa: TRY400 - a state
            self._state, self._reason = "halted", f"{error.reason}: {error}"
            await self.stop.wait()

    async def _wait_until_ready(self, sink: Sink) -> bool:
        """True when broker, topics and store are there; False when asked to stop before."""
        while not self.stop.is_set():
            try:
                await self._prepare(sink)
            except (BrokerUnavailable, SinkUnavailable) as error:
                if self._reason != str(error):
                    log.warning("waiting", reason=str(error))
                self._reason = str(error)
            else:
                return True
            await self._pause(START_RETRY_SECONDS)
        return False

    async def _prepare(self, sink: Sink) -> None:
        await sink.prepare(await describe(self._kafka(), STREAM_TOPICS))

    async def _consume(self, sink: Sink) -> None:
        lanes = Lanes(sink, self.progress)
        with tempfile.TemporaryDirectory(prefix="shopstream-faust-") as data_dir:
            app = make_app(
                group=group_of(self.name),
                topics=STREAM_TOPICS,
                brokers=self.settings.kafka_brokers,
                client_id=f"{self.settings.kafka_client_id}-{self.name}",
                session_timeout_seconds=self.settings.session_timeout_seconds,
                data_dir=Path(data_dir),
                lanes=lanes,
            )
            self._app = app
            try:
                await self._run_app(app, lanes, sink)
            finally:
                self._app = None
                await self._leave(app, lanes)

    async def _run_app(self, app: BatchApp, lanes: Lanes, sink: Sink) -> None:
        """Until asked to stop, or until something in or around the app fails."""
        jobs: list[Coroutine[Any, Any, Any]] = [
            self.stop.wait(),
            _wait_for(lanes.failed),
            self._start(app),
            self._watch(sink),
            self._watch_progress(app, lanes),
        ]
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if lanes.failed.done():
                # The app fails by it, too, a moment later; this is the cause.
                error = lanes.failed.result()
                raise error if isinstance(error, Halted) else WorkerFailed(str(error)) from error
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self, app: BatchApp) -> None:
        """Run the app. Raises WorkerFailed when it crashes."""
        await app.start()
        self._state, self._reason = "running", None
        log.info("running", group=app.conf.id)
        await app._crashed.wait()  # noqa: SLF001 - mode offers no public wait for a crash
        raise WorkerFailed(f"Faust crashed: {app.crash_reason!r}")

    async def _watch(self, sink: Sink) -> None:
        """Look after epochs and the sink, also when no event comes. Raises Halted."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await sink.ping()
                await self._prepare(sink)
            except SinkUnavailable as error:
                self.progress.sink_away(None, str(error))
            except BrokerUnavailable as error:
                # aiokafka reconnects by itself.
                self._reason = str(error)
            else:
                self.progress.sink_back(None, 0.0)
                self._reason = None

    async def _watch_progress(self, app: BatchApp, lanes: Lanes) -> None:
        """End a worker that has stopped consuming. Raises WorkerFailed.

        Faust and aiokafka are known to stay up without consuming after trouble with the broker
        (faust-streaming issues 175, 523, 532). Nothing is lost by starting anew.
        """
        last_seen_at = time.monotonic()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = time.monotonic()
            try:
                async with asyncio.timeout(WATCH_SECONDS):
                    behind = bool(lanes.sources()) and lanes.lacks(await app.log_ranges())
            except Exception:  # noqa: BLE001 - no answer is the broker's trouble, seen elsewhere
                behind = False
            if not behind or self.progress.trouble is not None:
                last_seen_at = now
            elif now - max(last_seen_at, self.progress.arrived_at) > STUCK_SECONDS_MAX:
                raise WorkerFailed("records wait on the log, but none arrive")

    async def _leave(self, app: BatchApp, lanes: Lanes) -> None:
        """Store what is open, commit, leave the group, so that a successor starts at once."""
        if not app.consumer.started:
            return
        app.consumer.stop_flow()
        await lanes.settle(timeout_seconds=CLOSE_SECONDS_MAX)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS_MAX):
                # Stopping commits what the lanes have stored.
                await app.stop()

    async def _report_on(self) -> None:
        while self.reports is not None:
            line = encode_report(self._report())
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionError):
                # A parent that reads too slowly misses a report; it never holds us up.
                self.reports.send(line)
            await asyncio.sleep(REPORT_SECONDS)

    def _report(self) -> Report:
        return Report(
            state=self._state,
            reason=self._reason,
            trouble=self.progress.trouble,
            lags=self._lags(),
            counters=dict(self.progress.counters),
        )

    def _lags(self) -> list[Lag]:
        app = self._app
        if app is None:
            return []
        lags = []
        for source in self.progress.sources:
            durable = app.lanes.durable(source)
            if durable is not None:
                end = app.stable_end(source)
                lags.append(Lag(source.topic, source.partition, durable, end))
        return lags

    def _kafka(self) -> KafkaConnection:
        return KafkaConnection(self.settings.kafka_brokers, self.settings.kafka_client_id)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()


async def _wait_for(future: asyncio.Future[BaseException]) -> None:
    # Shielded: the future outlives this wait.
    await asyncio.shield(future)
