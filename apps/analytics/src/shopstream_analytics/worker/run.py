"""The life of a worker: wait for what it needs, run the Faust app, end in order.

Away at start, the broker, the topics or the store only make it wait, with the reason in its report.
While it runs, a store that is away holds the lanes back; anything else that goes wrong ends the
process, and the parent starts a new one at the sink's checkpoints. A wrong epoch or a log that lost
what is needed halts it: it stays, unhealthy, without consuming.
"""

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.progress import Progress
from shopstream_analytics.sink import Halted, Sink, SinkMoved, SinkUnavailable, Topics
from shopstream_analytics.worker.ports import Engine, Surroundings
from shopstream_analytics.worker.report import REPORT_SECONDS, Lag, Report, State, encode_report
from shopstream_analytics.worker.topics import BrokerUnavailable
from shopstream_analytics.worker.watchdog import Stuck, Watchdog
from shopstream_shared.logs import get_logger

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

    around: Surroundings
    instance: str | None
    reports: socket.socket | None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    progress: Progress = field(default_factory=Progress)
    _state: State = "waiting"
    _reason: str | None = "starting"
    _lanes: Lanes | None = None
    _engine: Engine | None = None
    _topics: Topics = field(default_factory=dict)
    #: Whether what halts us is what preparing finds, so that preparing tells when it is put right.
    _found_by_preparing: bool = False

    async def run(self) -> None:
        """Until `stop` is set. Raises WorkerFailed."""
        reporter = asyncio.create_task(self._report_on(), name="reports")
        try:
            async with self.around.sink(self.progress) as sink:
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
        while not self.stop.is_set():
            try:
                await self._prepare(sink)
            except SinkMoved as error:
                log.info("moved", detail=str(error))
                return
            except Halted as error:
                log.debug("still halted", detail=str(error))
            except (BrokerUnavailable, SinkUnavailable) as error:
                log.debug("still halted", detail=str(error))
            else:
                if self._found_by_preparing:
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
        topics = await self.around.topics()
        self._require_same(topics)
        try:
            await sink.prepare(topics)
        except Halted:
            self._found_by_preparing = True
            raise
        self._topics = topics

    def _require_same(self, topics: Topics) -> None:
        """A process serves one life of each topic: what it has open speaks of that one's offsets.

        Whether the new life is adopted already is for the next process to find. Raises SinkMoved.
        """
        for name, before in self._topics.items():
            if topics[name].id != before.id:
                raise SinkMoved(f"{name} has id {topics[name].id} now, and had {before.id}")

    @property
    def _partitions(self) -> int:
        return sum(topic.partitions for topic in self._topics.values())

    @property
    def _member(self) -> str | None:
        """The static member's name: ours, and that of the topics as they are.

        A static member that comes back gets what it had; if it led the group, nobody would notice
        that the topics have more partitions now, or were missing when it last shared them out.
        """
        if self.instance is None:
            return None
        lives = sorted((name, topic.id, topic.partitions) for name, topic in self._topics.items())
        return f"{self.instance}-{hashlib.sha256(repr(lives).encode()).hexdigest()[:12]}"

    async def _consume(self, sink: Sink) -> None:
        lanes = Lanes(sink, self.progress)
        with self.around.engine(lanes, self._member) as engine:
            self._lanes, self._engine = lanes, engine
            try:
                await self._run_engine(engine, lanes, sink)
            finally:
                self._lanes = self._engine = None
                await self._end(engine, lanes)

    async def _run_engine(self, engine: Engine, lanes: Lanes, sink: Sink) -> None:
        """Until asked to stop, or until something in or around the engine fails."""
        jobs: list[Coroutine[Any, Any, Any]] = [
            self.stop.wait(),
            _wait_for(lanes.failed),
            self._start(engine),
            self._watch(engine, sink),
            self._watchdog(engine, lanes).run(),
        ]
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if lanes.failed.done():
                # The engine fails by it, too, a moment later; this is the cause.
                error = lanes.failed.result()
                raise error if isinstance(error, Halted) else WorkerFailed(repr(error)) from error
            for task in tasks:
                if task.done():
                    _raise_from(task)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self, engine: Engine) -> None:
        """Run the engine. Raises WorkerFailed when it crashes."""
        await engine.start()
        self._state, self._reason = "running", None
        log.info("running")
        raise WorkerFailed(await engine.until_crashed())

    async def _watch(self, engine: Engine, sink: Sink) -> None:
        """Look after the topics and the sink, also when no event comes. Raises Halted."""
        asked = False
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if not asked and self._state == "running" and not engine.assigned():
                # There may be more of us than partitions; but what was shared out without us
                # knowing, while the topics could not be seen, is only shared out anew on request.
                asked = True
                await engine.rejoin()
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
                    await engine.rejoin()

    def _watchdog(self, engine: Engine, lanes: Lanes) -> Watchdog:
        return Watchdog(
            lanes=lanes,
            progress=self.progress,
            ranges=engine.log_ranges,
            assigned=lambda: engine.assigned() if self._state == "running" else (),
            broker_answers=lambda: self._reason is None,
        )

    async def _end(self, engine: Engine, lanes: Lanes) -> None:
        """Store what is open, commit, and leave the group if nobody takes our place.

        So another member takes over at once when this worker is to end; one that failed keeps its
        partitions for its successor, which is there before the session ends.
        """
        if not engine.consuming:
            return
        engine.stop_flow()
        await lanes.settle(timeout_seconds=CLOSE_SECONDS_MAX)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS_MAX):
                if self.stop.is_set():
                    await engine.leave_at_stop()
                # Stopping commits what the lanes have stored.
                await engine.stop()

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
        if self._lanes is None or self._engine is None:
            return []
        lags = []
        for source in self.progress.sources:
            durable = self._lanes.durable(source)
            if durable is not None:
                end = self._engine.stable_end(source)
                lags.append(Lag(source.topic, source.partition, durable, end))
        return lags

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
