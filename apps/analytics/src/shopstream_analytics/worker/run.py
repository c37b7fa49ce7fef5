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
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from shopstream_analytics.consumer.app import BatchApp, make_app
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.progress import Progress
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import Halted, Sink, SinkMoved, SinkUnavailable, Topics
from shopstream_analytics.worker.report import REPORT_SECONDS, Lag, Report, State, encode_report
from shopstream_analytics.worker.sinks import WorkerName, group_of, open_sink, record_of
from shopstream_analytics.worker.topics import BrokerUnavailable, describe
from shopstream_analytics.worker.watchdog import Stuck, Watchdog
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.logs import get_logger
from shopstream_shared.topics import STREAM_TOPICS

#: Between two looks for what is missing at start.
START_RETRY_SECONDS: Final = 1.0
#: Between two looks at the topics and at the sink while running.
WATCH_SECONDS: Final = 5.0
#: Storing what is open, then leaving the group: together below the promised 10 s.
CLOSE_SECONDS_MAX: Final = 4.0
LEAVE_SECONDS_MAX: Final = 3.0

log = get_logger(__name__)


class WorkerFailed(Exception):
    """The worker cannot go on; the process ends with code 1."""


@dataclass(slots=True)
class Worker:
    """One process of a sink.

    ``instance`` is its name as a static member of the group, None for a dynamic one; ``reports`` is
    where the parent listens, None when there is none.
    """

    name: WorkerName
    settings: AnalyticsSettings
    instance: str | None
    reports: socket.socket | None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    progress: Progress = field(default_factory=Progress)
    _state: State = "waiting"
    _reason: str | None = "starting"
    _app: BatchApp | None = None
    _topics: Topics = field(default_factory=dict)

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
        except SinkMoved as error:
            # The parent starts a new one, as after any end.
            log.info("moved", detail=str(error))
        except Halted as error:
            log.error("halted", reason=error.reason, detail=str(error))  # noqa: TRY400 - a state
            self._state, self._reason = "halted", f"{error.reason}: {error}"
            await self._wait_for_a_remedy(sink)

    async def _wait_for_a_remedy(self, sink: Sink) -> None:
        """Until asked to stop, the data has moved elsewhere, or what halted us is put right.

        The process then ends, and its successor starts anew. What only opening a partition finds,
        such as a log that has lost records, is not looked at again: that needs a restart.
        """
        found = False
        while not self.stop.is_set():
            try:
                await self._prepare(sink)
            except SinkMoved as error:
                log.info("moved", detail=str(error))
                return
            except Halted:
                found = True
            except (BrokerUnavailable, SinkUnavailable) as error:
                log.debug("still halted", detail=str(error))
            else:
                if found:
                    log.info("put right")
                    return
            await self._pause(WATCH_SECONDS)

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
        topics = await describe(self._kafka(), STREAM_TOPICS)
        await sink.prepare(topics)
        self._topics = topics

    @property
    def _partitions(self) -> int:
        return sum(topic.partitions for topic in self._topics.values())

    @property
    def _member(self) -> str | None:
        # With the number of partitions: a static member that comes back gets what it had, and if
        # it led the group, nobody would notice that there are more now.
        return None if self.instance is None else f"{self.instance}-{self._partitions}"

    async def _consume(self, sink: Sink) -> None:
        lanes = Lanes(sink, self.progress)
        with tempfile.TemporaryDirectory(prefix="shopstream-faust-") as data_dir:
            app = make_app(
                group=group_of(self.name),
                topics=STREAM_TOPICS,
                brokers=self.settings.kafka_brokers,
                client_id=f"{self.settings.kafka_client_id}-{self.name}",
                session_timeout_seconds=self.settings.session_timeout_seconds,
                instance=self._member,
                data_dir=Path(data_dir),
                lanes=lanes,
                make_record=record_of(self.name),
            )
            self._app = app
            try:
                await self._run_app(app, lanes, sink)
            finally:
                self._app = None
                await self._end(app, lanes)

    async def _run_app(self, app: BatchApp, lanes: Lanes, sink: Sink) -> None:
        """Until asked to stop, or until something in or around the app fails."""
        jobs: list[Coroutine[Any, Any, Any]] = [
            self.stop.wait(),
            _wait_for(lanes.failed),
            self._start(app),
            self._watch(app, sink),
            self._watchdog(app, lanes).run(),
        ]
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if lanes.failed.done():
                # The app fails by it, too, a moment later; this is the cause.
                error = lanes.failed.result()
                raise error if isinstance(error, Halted) else WorkerFailed(repr(error)) from error
            for task in tasks:
                if task.done():
                    _raise_from(task)
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

    async def _watch(self, app: BatchApp, sink: Sink) -> None:
        """Look after the topics and the sink, also when no event comes. Raises Halted."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            before = self._partitions
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
                if self._partitions != before:
                    await app.batches.rejoin()

    def _watchdog(self, app: BatchApp, lanes: Lanes) -> Watchdog:
        return Watchdog(
            lanes=lanes,
            progress=self.progress,
            ranges=app.log_ranges,
            assigned=lambda: app.batches.sources() if self._state == "running" else (),
            broker_answers=lambda: self._reason is None,
        )

    async def _end(self, app: BatchApp, lanes: Lanes) -> None:
        """Store what is open, commit, and leave the group if nobody takes our place.

        So another member takes over at once when this worker is to end; one that failed keeps its
        partitions for its successor, which is there before the session ends.
        """
        if not app.consumer.started:
            return
        app.consumer.stop_flow()
        await lanes.settle(timeout_seconds=CLOSE_SECONDS_MAX)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS_MAX):
                if self.stop.is_set():
                    await app.batches.leave_at_stop()
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


def _raise_from(task: asyncio.Task[Any]) -> None:
    try:
        task.result()
    except Stuck as error:
        raise WorkerFailed(str(error)) from error


async def _wait_for(future: asyncio.Future[BaseException]) -> None:
    # Shielded: the future outlives this wait.
    await asyncio.shield(future)
