"""The soak: half an hour at 60 % of what was just measured as the most, then `verify`.

The load is chaos's: sellers with a buyer each, one request at a time, a journal of every write that
was acknowledged; clients with different filters, whose every event stands in the journal.
"""

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from random import Random
from types import MappingProxyType
from typing import Final

import httpx

from shopstream_shared.clock import SystemClock
from shopstream_stack.bench.result import Results
from shopstream_stack.chaos.load import REQUEST_SECONDS_MAX, Caller, Shop, keep_going
from shopstream_stack.chaos.storm import verify
from shopstream_stack.chaos.tail import Tail
from shopstream_stack.chaos.timeline import Counts, Sample, Timeline
from shopstream_stack.demo.crowd import Crowd, until, watching
from shopstream_stack.demo.evidence import SeenEvent, WatcherReading
from shopstream_stack.journal import Journal, Received
from shopstream_stack.process import write_atomically
from shopstream_stack.whole import soak_report
from shopstream_stack.whole.arrivals import drain
from shopstream_stack.whole.place import WholePlace, files_note

#: Of the measured maximum.
SHARE: Final = 0.6
#: Sellers at once: more do not get more answered on two cores.
SELLERS: Final = 24
SEED: Final = 1
MEMORY_SECONDS: Final = 5.0
#: After the load, until no reader is behind and every client has everything.
LAGS_SECONDS_MAX: Final = 120.0
LAGS_POLL_SECONDS: Final = 0.5
ASK_SECONDS_MAX: Final = 10.0
REPORT: Final = "report.json"


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """Sizes of a run. ``warmup_seconds`` are the first of ``seconds``."""

    judged: bool
    maximum_seconds: float
    seconds: float
    warmup_seconds: float

    def warmup_of(self, process: str) -> float:
        """So long its memory does not count, in seconds.

        The stream keeps ten minutes of events in memory, and has to grow until it has them; no
        other process has such a store.
        """
        keeps = process.startswith("notifications")
        return self.warmup_seconds if keeps else min(self.warmup_seconds, WARMUP_SECONDS)


#: Of every process: connections are opened, code is loaded at first use.
WARMUP_SECONDS: Final = 120.0
SOAK_QUICK: Final = SoakPlan(judged=False, maximum_seconds=3.0, seconds=6.0, warmup_seconds=1.0)
MAXIMUM_SECONDS: Final = 90.0
#: An order that nobody pays frees its stock when its hold ends, which is two events more. By
#: default that is after 15 minutes: half-way the load would grow by a fifth, the stream's memory
#: with it, and it would go on as long after the end. Now each minute is like any other.
SOAK_VARIABLES: Final = MappingProxyType({"SHOPSTREAM_RESERVATION_SECONDS": "60"})
#: As long as is promised: a shorter run says nothing about growth.
MINUTES: Final = 30.0
WARMUP_SHARE: Final = 0.4


def soak_plan(minutes: float) -> SoakPlan:
    """So long at the steady rate; twelve of thirty minutes are the stream's warm-up."""
    seconds = minutes * 60
    return SoakPlan(
        judged=minutes >= MINUTES,
        maximum_seconds=MAXIMUM_SECONDS,
        seconds=seconds,
        warmup_seconds=seconds * WARMUP_SHARE,
    )


@dataclass(slots=True)
class SoakFound:
    """What a run found. A seller's step is a write mostly, now and then refused, or a read only:
    the pace is in steps, the other rates are acknowledged writes a second."""

    maximum: float = 0.0
    #: At the maximum: requests that got no answer at first, or were told to come later.
    turned_away: int = 0
    reached: float = 0.0
    pace_wanted: float = 0.0
    pace_reached: float = 0.0
    #: Requests that were not answered as they should at the steady rate, in words.
    errors: list[str] = field(default_factory=list)
    #: Anything else that must not be.
    wrong: list[str] = field(default_factory=list)
    lags_seconds: float | None = None
    #: By process, (seconds since the steady rate began, KiB).
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    verify_code: int = -1
    #: By name, of the process that had it first.
    pids: dict[str, int] = field(default_factory=dict)

    def sampled(self, name: str, pid: int, at: float, kib: float) -> None:
        """Note a sample. A successor has a line of its own: its memory would hide growth."""
        if self.pids.setdefault(name, pid) != pid:
            name = f"{name}, successor {pid}"
        self.memory.setdefault(name, []).append((at, kib))

    def take_maximum(self, caller: Caller) -> None:
        """At the maximum requests may be turned away; answered they are as at any time."""
        self.turned_away = caller.repeated + caller.given_up + caller.unread
        self.wrong += [f"at the maximum: {fault}" for fault in caller.faults]

    @property
    def writes_wanted(self) -> float:
        """Acknowledged writes a second."""
        return SHARE * self.maximum


class CountingJournal(Journal):
    """Counts what each client received, so that none of it need be kept."""

    counts: Counter[str]

    def received(self, name: str, event: Received) -> None:
        self.counts[name] += 1
        Journal.received(self, name, event)


class CountingShop(Shop):
    """Counts its steps."""

    steps = 0

    async def move(self) -> None:
        await Shop.move(self)
        self.steps += 1


def measure_soak(place: WholePlace, results: Results, plan: SoakPlan) -> None:
    """Measure the maximum, soak, wait, verify. Raises StackError when a part cannot run."""
    clock = SystemClock()
    run = f"soak-{clock.now():%Y%m%d-%H%M%S-%f}"
    folder = place.runs_folder / run
    folder.mkdir(parents=True)
    with CountingJournal.open(folder, run, clock) as journal:
        journal.counts = Counter()
        found = asyncio.run(_soak(place, plan, run, journal))
    found.verify_code = asyncio.run(verify(place, journal.path, folder))
    results.rows += soak_report.rows(plan, found)
    soak_report.picture(folder, found, f"soak, {plan.seconds:g} s at {found.reached:.0f} writes/s")
    whole = {**asdict(found), "seconds": plan.seconds, "warmupSeconds": plan.warmup_seconds}
    write_atomically(folder / REPORT, json.dumps(whole) + "\n")
    results.notes.append(
        f"The measured maximum is that of system and load on this machine: {SELLERS} sellers, one "
        f"request at a time each, for {plan.maximum_seconds:g} s, in which {found.turned_away} "
        "requests were not answered at first"
    )
    results.notes.append(files_note(folder))


async def _soak(place: WholePlace, plan: SoakPlan, run: str, journal: CountingJournal) -> SoakFound:
    async with _prepared(place, run, journal) as soaking:
        return await soaking.run(plan)


@dataclass(slots=True)
class _Soaking:
    """All that lives for the length of a run."""

    place: WholePlace
    journal: CountingJournal
    tail: Tail
    crowd: Crowd
    caller: Caller
    shops: list[CountingShop]
    client: httpx.AsyncClient
    found: SoakFound = field(default_factory=SoakFound)

    async def run(self, plan: SoakPlan) -> SoakFound:
        found, reporter = self.found, self.place.system.reporter
        with reporter.step(f"The maximum, {plan.maximum_seconds:g} s"):
            found.maximum, pace = await self._load(plan.maximum_seconds, math.inf)
            await asyncio.to_thread(drain, self.place)
        found.take_maximum(self.caller)
        found.pace_wanted = SHARE * pace
        with reporter.step(f"{SHARE:.0%} of {found.maximum:.0f} writes/s, {plan.seconds:g} s"):
            await self._steady(plan)
        with reporter.step("Until nobody is behind"):
            began = time.monotonic()
            if await until(lambda: not self._missing(), LAGS_SECONDS_MAX) and await self._caught_up(
                began + LAGS_SECONDS_MAX
            ):
                found.lags_seconds = time.monotonic() - began
            else:
                found.wrong.append(
                    f"not within {LAGS_SECONDS_MAX:g} s: {self._missing() or 'lags'}"
                )
        found.wrong += [f"{one.name}: {gap}" for one in self.crowd.readings for gap in one.gaps]
        found.wrong += [f"{name} has ended by itself; see its log" for name in self.place.dead()]
        found.wrong += self.place.ended_workers()
        return found

    async def _steady(self, plan: SoakPlan) -> None:
        found, caller = self.found, self.caller
        caller.faults.clear()
        repeated, given_up, unread = caller.repeated, caller.given_up, caller.unread
        clock, stop, began = SystemClock(), asyncio.Event(), time.monotonic()
        timeline = Timeline(self.place, clock, began, self._counts, self.tail.take_slowest)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(timeline.run(stop))
            tasks.create_task(self._watch_memory(began, stop))
            found.reached, found.pace_reached = await self._load(plan.seconds, found.pace_wanted)
            stop.set()
        found.samples = timeline.samples
        found.errors += caller.faults
        if caller.repeated > repeated:
            found.errors.append(f"{caller.repeated - repeated} writes were not answered at first")
        if caller.given_up > given_up:
            found.errors.append(f"{caller.given_up - given_up} writes were given up")
        if caller.unread > unread:
            found.errors.append(f"{caller.unread - unread} reads were not answered")

    async def _load(self, seconds: float, per_second: float) -> tuple[float, float]:
        """All sellers at this pace together; acknowledged writes, and steps, a second."""
        stop, before, began = asyncio.Event(), self.caller.acknowledged, time.monotonic()
        steps = sum(shop.steps for shop in self.shops)
        each = per_second / len(self.shops)
        async with asyncio.TaskGroup() as tasks:
            for shop in self.shops:
                tasks.create_task(keep_going(shop, stop, each))
            await asyncio.sleep(seconds)
            acknowledged, took = self.caller.acknowledged - before, time.monotonic() - began
            steps = sum(shop.steps for shop in self.shops) - steps
            stop.set()
        return acknowledged / took, steps / took

    async def _watch_memory(self, began: float, stop: asyncio.Event) -> None:
        while not stop.is_set():
            at = time.monotonic() - began
            for name, (pid, kib) in (await asyncio.to_thread(self.place.resident_kib)).items():
                self.found.sampled(name, pid, round(at, 1), kib)
            try:
                async with asyncio.timeout(MEMORY_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue

    def _counts(self) -> Counts:
        return Counts(
            acknowledged=self.caller.acknowledged,
            published=self.tail.published,
            delivered=self.journal.counts.total(),
            repeated=self.caller.repeated,
        )

    def _missing(self) -> str:
        """Which client has not had everything that is on the log."""
        for reading in self.crowd.readings:
            wanted, has = self.tail.matching(reading), self.journal.counts[reading.name]
            if has != wanted:
                return f"{reading.name} has {has} of {wanted} events"
        return ""

    async def _caught_up(self, end: float) -> bool:
        """Wait until relay and all groups are at the end of what they read."""
        url = f"{self.place.url('analytics')}/admin/overview"
        while time.monotonic() < end:
            answer = await self.client.get(url, timeout=ASK_SECONDS_MAX)
            if answer.is_success and not behind(answer.json()):
                return True
            await asyncio.sleep(LAGS_POLL_SECONDS)
        return False


def behind(overview: Mapping[str, object]) -> list[str]:
    """Who is behind in what `GET /admin/overview` answers, or does not know it."""
    relay, groups = overview.get("relay"), overview.get("groups")
    if not isinstance(relay, dict) or not isinstance(groups, list) or not groups:
        return ["the overview says nothing"]
    rows = ["relay"] if relay.get("lagRows") != 0 else []
    return rows + [str(group.get("group")) for group in groups if group.get("lag") != 0]


@asynccontextmanager
async def _prepared(
    place: WholePlace, run: str, journal: CountingJournal
) -> AsyncIterator[_Soaking]:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        tail = Tail(place.brokers, clock)
        await asyncio.to_thread(tail.start)
        stack.push_async_callback(asyncio.to_thread, tail.stop)
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                timeout=REQUEST_SECONDS_MAX, limits=httpx.Limits(max_connections=2 * SELLERS)
            )
        )
        crowd = await stack.enter_async_context(
            watching(place.url("notifications"), readings(run), journal, _forget)
        )
        caller = Caller(client, [place.url("api")], journal)
        yield _Soaking(
            place=place,
            journal=journal,
            tail=tail,
            crowd=crowd,
            caller=caller,
            shops=[
                CountingShop(caller, seller(run, number), Random(f"{SEED} {number}"))  # noqa: S311 - repeatable on purpose
                for number in range(SELLERS)
            ],
            client=client,
        )


def seller(run: str, number: int) -> str:
    """One of the run's own."""
    return f"{run}-{number:02}"


def readings(run: str) -> list[WatcherReading]:
    """A handful of clients with different filters."""
    return [
        WatcherReading("everything", "everything"),
        WatcherReading("orders", "orders", ("order.*",)),
        WatcherReading("products", "products", ("product.*",)),
        WatcherReading("one seller", "one seller", (), seller(run, 0)),
    ]


def _forget(_event: SeenEvent) -> bool:
    """The journal holds what came; there may be hundreds of thousands."""
    return False
