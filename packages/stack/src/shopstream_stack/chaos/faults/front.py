"""Faults of what takes writes and publishes them: API, relay, PostgreSQL, Kafka, their links."""

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from shopstream_stack.chaos import recovery
from shopstream_stack.chaos.faults.scene import MOST, Makers, Scene
from shopstream_stack.chaos.place import RELAYS
from shopstream_stack.chaos.probe import log_bytes
from shopstream_stack.chaos.recovery import Recovery

_TERMINATE: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class Front:
    """See the module."""

    scene: Scene

    @property
    def makers(self) -> Makers:
        """How each kind is made."""
        place = self.scene.place
        return {
            "kill": self._kill,
            "terminate": self._terminate,
            "stop": self._stop,
            "broker-kill": partial(self._component, place.system.kill),
            "broker-restart": partial(self._component, place.stop),
            "database-terminate": self._end_sessions,
            "database-restart": partial(self._component, place.stop),
            "database-kill": partial(self._component, place.system.kill),
            "latency": self._latency,
            "cut": self._cut,
            "half-open": self._half_open,
            "answer-lost": self._answer_lost,
            "clock-jump": self._clock_jump,
        }

    async def _kill(self, found: Recovery) -> None:
        place = self.scene.place
        with self.scene.dead_on_purpose(found.target):
            since = time.monotonic()
            await asyncio.to_thread(place.system.kill, found.target)
            await asyncio.to_thread(place.spawn, found.target)
            await self.scene.back(
                found, since, recovery.SERVES_SECONDS_MAX, recovery.PUBLISHES_SECONDS_MAX
            )

    async def _terminate(self, found: Recovery) -> None:
        name, since = found.target, time.monotonic()
        with self.scene.dead_on_purpose(name):
            self.scene.place.signal(name, signal.SIGTERM)
            await self.scene.asked_to_end(found, name, since)
            since = time.monotonic()
            await asyncio.to_thread(self.scene.place.spawn, name)
            await self.scene.back(found, since)

    async def _stop(self, found: Recovery) -> None:
        name, place, probe = found.target, self.scene.place, self.scene.probe
        leads = name in RELAYS and await probe.leader() == name
        mark = log_bytes(place, name)
        place.signal(name, signal.SIGSTOP)
        since = time.monotonic()
        try:
            if leads:
                other = await probe.publishes(since, MOST)
                self.scene.note(found, "another publishes", other, recovery.TAKEOVER_SECONDS_MAX)
            await asyncio.sleep(max(0.0, since + found.fault.seconds - time.monotonic()))
        finally:
            place.signal(name, signal.SIGCONT)
        since = time.monotonic()
        if leads:
            await self._fenced(found, mark, since)
        await self.scene.back(found, since)

    async def _fenced(self, found: Recovery, mark: int, since: float) -> None:
        """The woken leader must say that its term ended: it published nothing more."""
        bar = recovery.FENCED_SECONDS_MAX
        most = bar * self.scene.patience
        reason = await self.scene.probe.term_ended(found.target, mark, since, most)
        seconds = time.monotonic() - since if reason else None
        self.scene.note(found, "the woken one gives up", seconds, bar)
        found.notes.append(reason or "the woken leader noticed nothing")

    async def _component(self, end: Callable[[str], object], found: Recovery) -> None:
        await self.scene.away(end, found)
        await self.scene.back(found, time.monotonic())

    async def _end_sessions(self, found: Recovery) -> None:
        def end_all() -> int:
            with self.scene.place.connect() as session:
                return len(session.execute(_TERMINATE).fetchall())

        found.notes.append(f"{await asyncio.to_thread(end_all)} sessions ended")
        await self.scene.back(found, time.monotonic())

    async def _latency(self, found: Recovery) -> None:
        with self.scene.bad(found.target) as link:
            link.slow(found.fault.parameters["delay_seconds"])
            await asyncio.sleep(found.fault.seconds)
        await self.scene.back(found, time.monotonic())

    async def _half_open(self, found: Recovery) -> None:
        with self.scene.bad(found.target) as link:
            found.notes.append(f"{link.connections} connections silent")
            link.go_silent()
            await asyncio.sleep(found.fault.seconds)
        await self.scene.back(found, time.monotonic())

    async def _cut(self, found: Recovery) -> None:
        await self.scene.cut(found)
        await self.scene.back(found, time.monotonic())

    async def _answer_lost(self, found: Recovery) -> None:
        with self.scene.bad(found.target) as link:
            before = link.lost
            link.lose_answers(int(found.fault.parameters["times"]))
            await self.scene.happened(found, lambda: link.lost - before, "answers lost")
        await self.scene.back(found, time.monotonic())

    async def _clock_jump(self, found: Recovery) -> None:
        """Forwards or backwards, and back again: both are jumps for whoever lives through them."""
        by = found.fault.parameters["jump_seconds"]
        found.notes.append(f"by {by / 3_600:+.1f} h")
        since = time.monotonic()
        try:
            self.scene.place.move_clock(found.target, by)
            await self.scene.back(found, since)
            await asyncio.sleep(max(0.0, since + found.fault.seconds - time.monotonic()))
        finally:
            self.scene.place.move_clock(found.target, 0.0)
        await self.scene.back(found, time.monotonic())
