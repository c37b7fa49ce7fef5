"""Makes one fault, ends it, and measures how long the system took to be as before."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

import psycopg

from shopstream_stack.chaos import recovery
from shopstream_stack.chaos.link import Link
from shopstream_stack.chaos.place import APIS, RELAYS, Place
from shopstream_stack.chaos.probe import Probe, log_bytes
from shopstream_stack.chaos.recovery import Measure, Recovery
from shopstream_stack.chaos.schedule import FAULTS, FILLED_BY, Fault
from shopstream_stack.demo.crowd import until
from shopstream_stack.errors import StackError

LEADER: Final = "leader"
_TERMINATE: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""

Make = Callable[[Recovery], Awaitable[None]]


class Inflict:
    """Makes faults, one at a time. ``busy`` holds the processes that are dead on purpose.

    ``began`` (monotonic) is where times count from, each bar is taken ``patience`` times.
    """

    def __init__(self, place: Place, probe: Probe, began: float, patience: float) -> None:
        self.busy: set[str] = set()
        self._place = place
        self._probe = probe
        self._began = began
        self._patience = patience
        self._makers: Mapping[str, Make] = {
            "kill": self._kill,
            "terminate": self._terminate,
            "stop": self._stop,
            "broker-kill": partial(self._component, self._place.system.kill),
            "broker-restart": partial(self._component, self._place.stop),
            "database-terminate": self._end_sessions,
            "database-restart": partial(self._component, self._place.stop),
            "database-kill": partial(self._component, self._place.system.kill),
            "latency": self._latency,
            "cut": self._cut,
            "half-open": self._half_open,
            "answer-lost": self._answer_lost,
            "worker-kill": self._worker_kill,
            "worker-stop": self._worker_stop,
            "sink-cut": self._sink_cut,
        }
        unmade = FAULTS.keys() ^ self._makers.keys()
        if unmade:
            raise StackError(f"no way to make or no row in FAULTS: {', '.join(sorted(unmade))}")

    async def __call__(self, fault: Fault) -> Recovery:
        """Make the fault and wait until it is over; never raises because of what it did."""
        found = Recovery(fault, fault.target, began=self._now())
        try:
            if fault.target.startswith(LEADER):
                found.target = fault.target.replace(LEADER, await self._probe.leader(), 1)
                found.began = self._now()
            await self._makers[fault.kind](found)
        except (StackError, psycopg.Error, OSError) as error:
            found.wrong.append(str(error))
        found.ended = self._now()
        if not found.holds:
            # A bar of seconds says little about a machine that has other work.
            found.notes.append(f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} processors")
        return found

    def _now(self) -> float:
        return time.monotonic() - self._began

    async def _kill(self, found: Recovery) -> None:
        with self._dead_on_purpose(found.target):
            since = time.monotonic()
            await asyncio.to_thread(self._place.system.kill, found.target)
            await asyncio.to_thread(self._place.spawn, found.target)
            await self._back(
                found, since, recovery.SERVES_SECONDS_MAX, recovery.PUBLISHES_SECONDS_MAX
            )

    async def _terminate(self, found: Recovery) -> None:
        name, since = found.target, time.monotonic()
        with self._dead_on_purpose(name):
            self._place.signal(name, signal.SIGTERM)
            gone = await self._probe.gone(name, since, recovery.WAIT_SECONDS_MAX)
            self._note(found, "ends", gone, recovery.ENDS_SECONDS_MAX)
            await asyncio.to_thread(self._place.stop, name)  # its pid file, or what hangs
            since = time.monotonic()
            await asyncio.to_thread(self._place.spawn, name)
            await self._back(found, since)

    async def _stop(self, found: Recovery) -> None:
        name = found.target
        leads = name in RELAYS and await self._probe.leader() == name
        mark = log_bytes(self._place, name)
        self._place.signal(name, signal.SIGSTOP)
        since = time.monotonic()
        try:
            if leads:
                other = await self._probe.publishes(since, recovery.WAIT_SECONDS_MAX)
                self._note(found, "another publishes", other, recovery.TAKEOVER_SECONDS_MAX)
            await asyncio.sleep(max(0.0, since + found.fault.seconds - time.monotonic()))
        finally:
            self._place.signal(name, signal.SIGCONT)
        since = time.monotonic()
        if leads:
            await self._fenced(found, mark, since)
        await self._back(found, since)

    async def _fenced(self, found: Recovery, mark: int, since: float) -> None:
        """The woken leader must say that its term ended: it published nothing more."""
        bar = recovery.FENCED_SECONDS_MAX
        reason = await self._probe.term_ended(found.target, mark, since, bar * self._patience)
        seconds = time.monotonic() - since if reason else None
        self._note(found, "the woken one gives up", seconds, bar)
        found.notes.append(reason or "the woken leader noticed nothing")

    async def _component(self, end: Callable[[str], object], found: Recovery) -> None:
        with self._dead_on_purpose(found.target):
            since = time.monotonic()
            await asyncio.to_thread(end, found.target)
            await asyncio.sleep(found.fault.seconds)
            await asyncio.to_thread(self._place.start, found.target)
            found.notes.append(f"away for {time.monotonic() - since:.1f} s")
        await self._back(found, time.monotonic())

    async def _end_sessions(self, found: Recovery) -> None:
        def end_all() -> int:
            with self._place.connect() as session:
                return len(session.execute(_TERMINATE).fetchall())

        found.notes.append(f"{await asyncio.to_thread(end_all)} sessions ended")
        await self._back(found, time.monotonic())

    async def _latency(self, found: Recovery) -> None:
        with self._bad(found) as link:
            link.slow(found.fault.parameters["delay_seconds"])
            await asyncio.sleep(found.fault.seconds)
        await self._back(found, time.monotonic())

    async def _half_open(self, found: Recovery) -> None:
        with self._bad(found) as link:
            found.notes.append(f"{link.connections} connections silent")
            link.go_silent()
            await asyncio.sleep(found.fault.seconds)
        await self._back(found, time.monotonic())

    async def _cut(self, found: Recovery) -> None:
        await self._reset_connections(found)
        await self._back(found, time.monotonic())

    async def _reset_connections(self, found: Recovery) -> None:
        parameters = found.fault.parameters
        with self._bad(found) as link:
            before = link.cuts
            link.cut_after(int(parameters["bytes"]), int(parameters["times"]))
            await self._until_happened(found, lambda: link.cuts - before, "connections cut")

    async def _answer_lost(self, found: Recovery) -> None:
        with self._bad(found) as link:
            before = link.lost
            link.lose_answers(int(found.fault.parameters["times"]))
            await self._until_happened(found, lambda: link.lost - before, "answers lost")
        await self._back(found, time.monotonic())

    async def _worker_kill(self, found: Recovery) -> None:
        pid = await asyncio.to_thread(self._place.worker, found.target)
        since = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        await self._store(found, since, (found.target,), recovery.STORES_SECONDS_MAX)

    async def _worker_stop(self, found: Recovery) -> None:
        pid = await asyncio.to_thread(self._place.worker, found.target)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(found.fault.seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):  # its parent may have lost patience
                os.kill(pid, signal.SIGCONT)
        await self._store(found, time.monotonic(), (found.target,))

    async def _sink_cut(self, found: Recovery) -> None:
        await self._reset_connections(found)
        await self._store(found, time.monotonic(), FILLED_BY[found.target])

    async def _store(
        self,
        found: Recovery,
        since: float,
        workers: tuple[str, ...],
        bar: float = recovery.OTHERS_SECONDS_MAX,
    ) -> None:
        """Measure until these workers take records in; the rest of the system never stopped."""
        most = recovery.WAIT_SECONDS_MAX
        for worker, seconds in zip(
            workers,
            await asyncio.gather(*(self._probe.stores(one, since, most) for one in workers)),
            strict=True,
        ):
            self._note(found, f"{worker} stores", seconds, bar)
        found.wrong += await self._probe.healthy(("analytics",))
        await self._back(found, since)

    async def _until_happened(self, found: Recovery, count: Callable[[], int], what: str) -> None:
        """Wait until it happened as often as planned, at most as long as planned."""
        times = found.fault.parameters["times"]
        await until(lambda: count() >= times, found.fault.seconds)
        found.notes.append(f"{count()} {what}")
        if not count():
            found.wrong.append("the fault never happened")

    async def _back(
        self,
        found: Recovery,
        since: float,
        serves_max: float = recovery.OTHERS_SECONDS_MAX,
        publishes_max: float = recovery.OTHERS_SECONDS_MAX,
    ) -> None:
        """Measure until the API serves, the target's own process if it is one, and events flow."""
        most = recovery.WAIT_SECONDS_MAX
        name = found.target if found.target in APIS else APIS[0]
        asked = [self._probe.publishes(since, most)]
        if found.target != "relay":
            asked.append(self._probe.serves(name, since, most))
        publishes, *serves = await asyncio.gather(*asked)
        for one in serves:
            self._note(found, f"{name} serves", one, serves_max)
        self._note(found, "events are published", publishes, publishes_max)

    def _note(self, found: Recovery, what: str, seconds: float | None, bar: float) -> None:
        found.measures.append(Measure(what, seconds, bar * self._patience))

    @contextmanager
    def _dead_on_purpose(self, name: str) -> Iterator[None]:
        self.busy.add(name)
        try:
            yield
        finally:
            self.busy.discard(name)

    @contextmanager
    def _bad(self, found: Recovery) -> Iterator[Link]:
        link = self._place.links[found.target]
        try:
            yield link
        finally:
            link.heal()
