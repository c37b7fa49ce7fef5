"""One run: start everything, load it, make the faults, wait until all has arrived, verify."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Final

import httpx

from shopstream_shared.clock import Clock
from shopstream_stack.chaos.acts import Acts, Load
from shopstream_stack.chaos.faults.scene import Scene
from shopstream_stack.chaos.inflict import Inflict
from shopstream_stack.chaos.load import REQUEST_SECONDS_MAX, Caller, Shop, keep_going
from shopstream_stack.chaos.place import APIS, COMPONENTS, HIT, SERVICES, STEPS, Place
from shopstream_stack.chaos.probe import Probe
from shopstream_stack.chaos.recovery import Recovery
from shopstream_stack.chaos.schedule import Fault
from shopstream_stack.chaos.settled import Settled
from shopstream_stack.chaos.streams import Streams, as_a_browser
from shopstream_stack.chaos.tail import Tail
from shopstream_stack.chaos.timeline import Counts, Sample, Timeline
from shopstream_stack.console import Reporter
from shopstream_stack.demo.crowd import Crowd, watching
from shopstream_stack.demo.evidence import SeenEvent, WatcherReading
from shopstream_stack.errors import StackError
from shopstream_stack.journal import Journal
from shopstream_stack.system import side_by_side

SELLERS: Final = 6
#: A client is cut this often, each in its turn, whatever else happens.
CUT_SECONDS: Final = 5.0
#: Processes that die though nobody killed them: started again so often, then the run ends.
DEATHS_MAX: Final = 5
SUPERVISE_SECONDS: Final = 0.5
VERIFY_SECONDS_MAX: Final = 900.0
#: The report of `verify`, in the run's folder.
VERIFY: Final = "verify.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to do; ``folder`` is where it leaves what it found."""

    run: str
    seed: int
    seconds: float
    writes_per_second: float
    #: By how much a bar may be exceeded: where other work shares the machine.
    patience: float
    schedule: tuple[Fault, ...]
    #: What comes after the schedule, of `acts.ACTS`.
    acts: tuple[str, ...]
    #: However long they take; else only those that find time.
    every_fault: bool
    #: With fewer of the schedule's faults the run does not hold; with nothing made none does.
    faults_min: int
    folder: Path
    clock: Clock
    reporter: Reporter


@dataclass(slots=True)
class Outcome:
    """What a run found."""

    journal: Path
    #: Of `verify`; 0 = holds, None = it was not asked.
    verify_code: int | None = None
    recoveries: list[Recovery] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    totals: Mapping[str, int] = field(default_factory=dict)
    #: Anything else that must not be: deaths, gaps, answers outside the contract, no drain.
    wrong: list[str] = field(default_factory=list)
    #: How many faults of the schedule the time did not suffice for: recoveries take theirs.
    unmade: int = 0


@dataclass(slots=True)
class _Run:
    """All that lives for the length of the load."""

    plan: Plan
    place: Place
    tail: Tail
    crowd: Crowd
    caller: Caller
    outcome: Outcome
    probe: Probe
    timeline: Timeline
    scene: Scene
    settled: Settled
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def go(self) -> None:
        """Load and faults, the wait for the last event, then the acts."""
        plan = self.plan
        async with asyncio.TaskGroup() as tasks:
            for side in (self._cut_clients(), self._supervise(), self.timeline.run(self.stop)):
                tasks.create_task(side)
            load = partial(self._loaded, tasks, self._shops())
            async with load():
                await self._faults()
                left = self.timeline.began + plan.seconds - time.monotonic()
                await asyncio.sleep(max(0.0, left))
                with plan.reporter.step("Faults are over: until all is healthy"):
                    self.outcome.wrong += await self.probe.healthy(SERVICES)
            with plan.reporter.step("Until all is written and has arrived"):
                late = await self.settled.until_all_has_arrived()
                self.outcome.wrong += [late] if late else []
            await self._acts(load)
            self.stop.set()

    @asynccontextmanager
    async def _loaded(self, tasks: asyncio.TaskGroup, shops: list[Shop]) -> AsyncIterator[None]:
        """All sellers and buyers are at work for the length of the block.

        In the run's own group: what the block raises leaves it as it is.
        """
        stop, rate = asyncio.Event(), self.plan.writes_per_second / SELLERS
        workers = [tasks.create_task(keep_going(shop, stop, rate)) for shop in shops]
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait(workers)

    async def _acts(self, load: Load) -> None:
        play = Acts(self.scene, self.tail, self.settled, load, self.timeline.began)
        for name in self.plan.acts:
            with self.plan.reporter.step(f"Act: {name}"):
                found = await play(name)
            self.outcome.recoveries.append(found)

    def _shops(self) -> list[Shop]:
        names = sellers(self.plan.run)
        seed = self.plan.seed
        return [
            Shop(self.caller, name, Random(f"{seed} {number}"))  # noqa: S311 - repeatable on purpose
            for number, name in enumerate(names)
        ]

    async def _faults(self) -> None:
        began, plan = self.timeline.began, self.plan
        inflict = Inflict(self.scene, began)
        for number, fault in enumerate(plan.schedule):
            if not plan.every_fault and time.monotonic() > began + plan.seconds:
                self.outcome.unmade = len(plan.schedule) - number
                return
            await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
            with plan.reporter.step(f"{fault.kind} {fault.target}"):
                found = await inflict(fault)
                found.wrong += await self.probe.healthy(HIT)
            self.outcome.recoveries.append(found)

    async def _cut_clients(self) -> None:
        turn = 0
        while not self.stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CUT_SECONDS):
                    await self.stop.wait()
            self.crowd.watchers[turn % len(self.crowd.watchers)].cut()
            turn += 1

    async def _supervise(self) -> None:
        """Start again whoever died by itself, and remember it. Raises StackError at DEATHS_MAX."""
        deaths = 0
        while not self.stop.is_set():
            busy = self.scene.busy
            for name in (*COMPONENTS, *SERVICES):
                if name in busy or await asyncio.to_thread(self.place.runs, name):
                    continue
                if name in busy:
                    continue  # killed while we asked
                deaths += 1
                self.outcome.wrong.append(f"{name} ended by itself; see its log")
                if deaths > DEATHS_MAX:
                    raise StackError(f"{deaths} processes ended by themselves, the last is {name}")
                await asyncio.to_thread(self.place.start, name)
            await asyncio.sleep(SUPERVISE_SECONDS)

    def conclude(self) -> None:
        """Put together what is not known before the end."""
        outcome, caller = self.outcome, self.caller
        outcome.samples = self.timeline.samples
        readings = self.crowd.readings
        outcome.wrong += [f"answer outside the contract: {fault}" for fault in caller.faults]
        outcome.wrong += self.settled.unmeant_gaps()
        outcome.wrong += self.place.ended_workers(self.scene.meant)
        outcome.totals = {
            "acknowledged": caller.acknowledged,
            "refused": caller.refused,
            "repeated": caller.repeated,
            "given up": caller.given_up,
            "published": self.tail.published,
            "delivered": sum(len(one.receipts) for one in readings),
            "clients": len(readings),
            "connections": sum(len(one.opens) for one in readings),
        }


async def storm(place: Place, plan: Plan) -> Outcome:
    """Start the system, run the plan, let `verify` judge.

    Raises StackError (in a group) when it cannot start or keeps dying, NotOpen, KafkaException.
    """
    async with AsyncExitStack() as stack:
        # Open to the end: `verify` asks for what is still to be published, too.
        for link in place.links.values():
            await stack.enter_async_context(link.open())
        await start_all(place, plan.reporter)
        async with _prepared(place, plan) as run:
            try:
                await run.go()
            finally:
                run.conclude()
        with plan.reporter.step("Verifying"):
            run.outcome.verify_code = await verify(place, run.outcome.journal, plan.folder)
    return run.outcome


async def verify(place: Place, journal: Path, folder: Path) -> int:
    """The exit code of `shopstream verify` over the place, with the run's journal.

    A process of its own: the system is judged by what anyone would run. Its words go to our
    output. Raises TimeoutError.
    """
    command = Path(sys.executable).with_name("shopstream")
    process = await asyncio.create_subprocess_exec(
        *(str(command), "verify", "--journal", str(journal), "--json", str(folder / VERIFY)),
        env=dict(place.system.settings.environ),
    )
    try:
        async with asyncio.timeout(VERIFY_SECONDS_MAX):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def _prepared(place: Place, plan: Plan) -> AsyncIterator[_Run]:
    async with AsyncExitStack() as stack:
        tail = Tail(place.brokers, plan.clock)
        await asyncio.to_thread(tail.start)
        stack.push_async_callback(asyncio.to_thread, tail.stop)
        journal = stack.enter_context(Journal.open(plan.folder, plan.run, plan.clock))
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=REQUEST_SECONDS_MAX))
        probing = await stack.enter_async_context(httpx.AsyncClient())
        crowd = await stack.enter_async_context(
            watching(
                place.url("notifications"), readings(plan.run), journal, _all, wait=as_a_browser
            )
        )
        caller = Caller(client, [place.url(name) for name in APIS], journal)
        began = time.monotonic()
        probe = Probe(place, tail, probing, plan.clock)
        yield _Run(
            plan=plan,
            place=place,
            tail=tail,
            crowd=crowd,
            caller=caller,
            outcome=Outcome(journal.path),
            probe=probe,
            timeline=Timeline(
                place, plan.clock, began, lambda: _counts(caller, tail, crowd), tail.take_slowest
            ),
            scene=Scene(place, probe, Streams(crowd, plan.clock), plan.patience),
            settled=Settled(place, tail, crowd),
        )


async def start_all(place: Place, reporter: Reporter) -> None:
    """Everything, healthy: what is used before what uses it. Raises StartFailedError.

    Step by step from the loop: who interrupts it waits for one step, not for all.
    """
    for names in STEPS:
        with reporter.step(f"Starting {', '.join(names)}"):
            starts: list[Callable[[], None]] = [partial(place.start, name) for name in names]
            await asyncio.to_thread(side_by_side, starts)


def sellers(run: str) -> list[str]:
    """The run's own."""
    return [f"{run}-{letter}" for letter in ascii_lowercase[:SELLERS]]


def readings(run: str) -> list[WatcherReading]:
    """A handful of clients with different filters, each of which is cut and resumes."""
    first, second, *_ = sellers(run)
    stock = ("inventory.*", "product.low_stock", "product.out_of_stock")
    kinds: Sequence[tuple[str, tuple[str, ...], str | None]] = [
        ("everything", (), None),
        ("everything too", (), None),
        ("orders", ("order.*",), None),
        ("products", ("product.*",), None),
        ("stock", stock, None),
        ("one seller", (), first),
        ("orders of one seller", ("order.created", "order.paid"), second),
    ]
    return [WatcherReading(name, name, types, seller) for name, types, seller in kinds]


def _all(event: SeenEvent) -> bool:
    return True


def _counts(caller: Caller, tail: Tail, crowd: Crowd) -> Counts:
    return Counts(
        acknowledged=caller.acknowledged,
        published=tail.published,
        delivered=sum(len(reading.receipts) for reading in crowd.readings),
        repeated=caller.repeated,
    )
