"""The load gate: k6's users over REST, ten thousand streams beside them, then `verify`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

from shopstream_shared.clock import SystemClock
from shopstream_stack.bench.result import Bar, Results, Row
from shopstream_stack.chaos.storm import verify
from shopstream_stack.demo.crowd import watching
from shopstream_stack.demo.evidence import SeenEvent, WatcherReading
from shopstream_stack.demo.log_reader import LogUnreadable
from shopstream_stack.errors import StackError
from shopstream_stack.journal import Journal
from shopstream_stack.kit.generator import (
    Generator,
    StreamGroup,
    StreamReport,
    StreamSpec,
    generating,
)
from shopstream_stack.whole.arrivals import drain, on_the_log
from shopstream_stack.whole.k6 import MEAN_USERS, Summary, Users, into_journal, run_k6
from shopstream_stack.whole.place import WholePlace, files_note
from shopstream_stack.whole.statements import Statements

#: What the gate is held to; of the answers and statements of the whole profile.
P95_MS_MAX: Final = 200.0
P99_MS_MAX: Final = 500.0
ERRORS_MAX: Final = 0.001
STATEMENTS_P95_MS_MAX: Final = 50.0
P50: Final = 0.5
P95: Final = 0.95
P99: Final = 0.99
OPEN_SECONDS_MAX: Final = 180.0
#: After the last event is on the log, until every stream has had everything.
SETTLE_SECONDS_MAX: Final = 120.0
#: One thread reads all streams in time; more would only be woken more often.
POLLERS: Final = 1


@dataclass(frozen=True, slots=True)
class GatePlan:
    """Sizes of a run. ``judged`` is False where they are too small to say anything about speed."""

    judged: bool
    users: int
    seconds: float
    pause_seconds: float
    streams: int

    @property
    def requests_a_second_min(self) -> float:
        """As many as the users send when an answer takes as long as nineteen of twenty may.

        Users wait for their answer before they ask again: of a slow system they ask less, and the
        few requests that it is spared are missing from its quantiles. This bar does not move.
        """
        return self.users * MEAN_USERS / (self.pause_seconds + P95_MS_MAX / 1_000)


#: What is promised.
GATE_FULL: Final = GatePlan(
    judged=True, users=200, seconds=960.0, pause_seconds=1.0, streams=10_000
)
GATE_QUICK: Final = GatePlan(judged=False, users=6, seconds=8.0, pause_seconds=0.1, streams=60)


def gate_plan(*, users: int, seconds: float, pause_seconds: float, streams: int) -> GatePlan:
    """Judged only where it is no less than what is promised: a bar says nothing of a lighter load.

    ``pause_seconds``: of a user, between an answer and the next request.
    """
    enough = (
        users >= GATE_FULL.users
        and seconds >= GATE_FULL.seconds
        and pause_seconds <= GATE_FULL.pause_seconds
        and streams >= GATE_FULL.streams
    )
    return GatePlan(enough, users, seconds, pause_seconds, streams)


@dataclass(slots=True)
class GateFound:
    """What a run found."""

    summary: Summary
    statements: Statements
    streams: StreamReport
    drained_seconds: float
    acknowledged: int = 0
    #: What must not be, in words.
    wrong: list[str] = field(default_factory=list)


def measure_gate(place: WholePlace, results: Results, plan: GatePlan) -> None:
    """Load the system, judge, verify. Raises StackError when a part of it cannot run."""
    clock = SystemClock()
    run = f"gate-{clock.now():%Y%m%d-%H%M%S-%f}"
    folder = place.runs_folder / run
    folder.mkdir(parents=True)
    users = Users(
        count=plan.users,
        seconds=plan.seconds,
        pause_seconds=plan.pause_seconds,
        sellers=f"{run}-",
        judged=plan.judged,
    )
    with Journal.open(folder, run, clock) as journal:
        found = asyncio.run(_Gate(place, plan, users, folder, journal).run(place.system.cache.k6))
        found.acknowledged = into_journal(folder, journal)
    code = asyncio.run(verify(place, journal.path, folder))
    results.rows += rows(plan, found, code)
    if not plan.judged:
        results.notes.append("Lighter than what is promised: no speed is judged")
    results.notes.append(files_note(folder))


@dataclass(frozen=True, slots=True)
class _Gate:
    """One run."""

    place: WholePlace
    plan: GatePlan
    users: Users
    folder: Path
    journal: Journal

    async def run(self, k6: Path) -> GateFound:
        """Streams, then clients, then users; then all that was published is waited for."""
        place, plan = self.place, self.plan
        async with (
            self._streams() as generator,
            # A few clients whose every event `verify` compares with the log, one by one.
            watching(place.url("notifications"), self._readings(), self.journal, _forget) as crowd,
        ):
            before = await asyncio.to_thread(Statements.of, place.url("api"))
            await asyncio.to_thread(generator.begin)
            with place.system.reporter.step(f"{plan.users} users, {plan.seconds:g} s"):
                summary = await run_k6(k6, place.url("api"), self.users, self.folder)
            after = await asyncio.to_thread(Statements.of, place.url("api"))
            drained = await asyncio.to_thread(drain, place)
            streams = await asyncio.to_thread(self._settle, generator)
            found = GateFound(summary, after.since(before), streams, drained)
            found.wrong += [f"{one.name}: {gap}" for one in crowd.readings for gap in one.gaps]
            found.wrong += [f"{name} has ended by itself; see its log" for name in place.dead()]
            found.wrong += place.ended_workers()
        return found

    @property
    def _watched(self) -> list[str]:
        """The sellers whose streams are held: all, or as many as there are streams."""
        return self.users.sellers_of_all()[: self.plan.streams]

    @asynccontextmanager
    async def _streams(self) -> AsyncIterator[Generator]:
        plan = self.plan
        spec = StreamSpec(
            address=self.place.stream,
            connections=plan.streams,
            groups=[
                StreamGroup(name=seller, path=f"/events/stream?sellerId={seller}")
                for seller in self._watched
            ],
            profile="shopstream",
            pollers=POLLERS,
            open_seconds_max=OPEN_SECONDS_MAX,
        )
        async with AsyncExitStack() as stack:
            with self.place.system.reporter.step(f"Opening {plan.streams} streams"):
                opening = generating(self.place.load, spec)
                generator = await asyncio.to_thread(opening.__enter__)
            stack.push(opening.__exit__)
            if generator.opened.misses:
                raise StackError("; ".join(generator.opened.faults))
            yield generator

    def _settle(self, generator: Generator) -> StreamReport:
        """Hold each stream against the log. Raises StackError."""
        try:
            log = on_the_log(self.place.brokers)
        except (LogUnreadable, KafkaException) as error:
            raise StackError(f"the log cannot be read: {error}") from error
        expected = {seller: log.get(seller, {}) for seller in self._watched}
        if not any(expected.values()):
            raise StackError("no event of any user is on the log")
        return generator.settle(expected, SETTLE_SECONDS_MAX)

    def _readings(self) -> list[WatcherReading]:
        first = self.users.sellers_of_all()[0]
        return [
            WatcherReading("everything", "everything"),
            WatcherReading("orders", "orders", ("order.*",)),
            WatcherReading("one seller", "one seller", (), first),
        ]


def _forget(_event: SeenEvent) -> bool:
    """The journal holds what came; there may be hundreds of thousands."""
    return False


def rows(plan: GatePlan, found: GateFound, code: int) -> list[Row]:
    """The table: REST, the statements beneath it, the streams beside it, and `verify`'s word."""
    return [
        _rest(plan, found.summary),
        _statements(plan, found.statements),
        _beside(plan, found.streams),
        _verified(found, code),
    ]


def _rest(plan: GatePlan, summary: Summary) -> Row:
    errors = max(summary.failed, summary.wrong_answers / max(1, summary.requests))
    return Row(
        f"REST: {summary.users_max} users, {plan.seconds / 60:.2g} min",
        {
            "rate": summary.a_second,
            "p50Ms": summary.p50_ms,
            "p95Ms": summary.p95_ms,
            "p99Ms": summary.p99_ms,
            "maxMs": summary.max_ms,
            "requests": summary.requests,
            "errorShare": errors,
        },
        (
            Bar("p95 ms", summary.p95_ms, "<", P95_MS_MAX),
            Bar("p99 ms", summary.p99_ms, "<", P99_MS_MAX),
            Bar("errors", errors, "<", ERRORS_MAX),
            Bar("requests/s", summary.a_second, ">=", plan.requests_a_second_min),
        )
        if plan.judged
        else (),
        # Where speed is not judged, an error is still one of ours.
        () if plan.judged or not errors else (f"{errors:.2%} of the requests are errors",),
    )


def _statements(plan: GatePlan, statements: Statements) -> Row:
    p95 = statements.quantile_ms(P95)
    figures = {
        "rate": statements.count / plan.seconds,
        "p50Ms": statements.quantile_ms(P50),
        "p95Ms": p95,
        "p99Ms": statements.quantile_ms(P99),
    }
    return Row(
        "Database statements of requests and the work beside, commits included",
        figures,
        (Bar("p95 ms", p95, "<", STATEMENTS_P95_MS_MAX),) if plan.judged else (),
        () if statements.count else ("no statement was counted",),
    )


def _beside(plan: GatePlan, streams: StreamReport) -> Row:
    figures = {
        "rate": streams.deliveries / plan.seconds,
        "p50Ms": streams.steady.p50_ms,
        "p99Ms": streams.steady.p99_ms,
        "maxMs": streams.steady.max_ms,
        "deliveries": streams.deliveries,
    }
    faults = list(streams.faults)
    if streams.open != plan.streams:
        faults.append(f"{streams.open} of {plan.streams} streams are open at the end")
    if not streams.deliveries:
        faults.append("nothing was delivered")
    name = f"Beside it {plan.streams:,} streams, each a seller's"
    return Row(name, figures, (), tuple(faults))


def _verified(found: GateFound, code: int) -> Row:
    faults = list(found.wrong)
    if code:
        faults.append(f"verify: exit code {code}")
    if not found.acknowledged:
        faults.append("nothing was acknowledged")
    figures = {"acknowledged": found.acknowledged, "seconds": found.drained_seconds}
    bars = (Bar("verify's exit code", code, "==", 0),)
    return Row("Then until the outbox is empty; then verify", figures, bars, tuple(faults))
