"""Faults of the stream service: as a whole, and of one of its workers.

The clients of the run are the measure: they resume by themselves, with their last ids, and
`verify` holds their journal against the log.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shopstream_stack.chaos import recovery
from shopstream_stack.chaos.faults.scene import MOST, Makers, Scene
from shopstream_stack.chaos.recovery import Recovery
from shopstream_stack.demo.evidence import WatcherReading

SERVICE: Final = "notifications"
#: What a worker had sent before it stood still has reached its clients by then.
ON_ITS_WAY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Stream:
    """See the module."""

    scene: Scene

    @property
    def makers(self) -> Makers:
        """How each kind is made."""
        return {
            "stream-kill": self._kill,
            "stream-terminate": self._terminate,
            "stream-stop": self._stop,
        }

    async def _kill(self, found: Recovery) -> None:
        if found.target != SERVICE:
            await self._end_worker(found, signal.SIGKILL)
            return
        with self.scene.dead_on_purpose(SERVICE):
            since = time.monotonic()
            await asyncio.to_thread(self.scene.place.system.kill, SERVICE)
            await self._start_again(found, since)

    async def _terminate(self, found: Recovery) -> None:
        if found.target != SERVICE:
            await self._end_worker(found, signal.SIGTERM)
            return
        since = time.monotonic()
        with self.scene.dead_on_purpose(SERVICE):
            self.scene.place.signal(SERVICE, signal.SIGTERM)
            await self.scene.asked_to_end(found, SERVICE, since)
            await self._start_again(found, time.monotonic())

    async def _start_again(self, found: Recovery, since: float) -> None:
        await asyncio.to_thread(self.scene.place.spawn, SERVICE)
        up = await self.scene.probe.lives(SERVICE, since, MOST)
        self.scene.note(found, "the stream serves", up, recovery.OTHERS_SECONDS_MAX)
        await self._resumed(found, time.monotonic())

    async def _end_worker(self, found: Recovery, number: signal.Signals) -> None:
        """One of several: its clients go to the others, its parent starts another."""
        pid, _ = await self._worker(found)
        since = time.monotonic()
        self.scene.strike(pid, number)
        gone = await self.scene.probe.pid_gone(pid, since, MOST)
        self.scene.note(found, "ends", gone, recovery.ENDS_SECONDS_MAX)
        await self._resumed(found, time.monotonic())

    async def _stop(self, found: Recovery) -> None:
        pid, held = await self._worker(found)
        since = time.monotonic()
        self.scene.strike(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(found.fault.seconds)
            if not stalled(held, since):
                found.wrong.append("no client was without events while the worker stood still")
        finally:
            with contextlib.suppress(ProcessLookupError):  # its parent may have lost patience
                os.kill(pid, signal.SIGCONT)
        await self._resumed(found, time.monotonic())

    async def _worker(self, found: Recovery) -> tuple[int, list[WatcherReading]]:
        """Of all workers the one whose end most is felt: its pid, and its clients."""
        workers = await asyncio.to_thread(self.scene.place.stream_workers)
        held = {pid: self.scene.streams.at(ports) for pid, ports in workers.items()}
        pid = most_felt(held)
        found.notes.append(f"{len(held[pid])} clients were at the worker")
        if not held[pid]:
            found.wrong.append("no client was at a worker: nobody felt it")
        return pid, held[pid]

    async def _resumed(self, found: Recovery, since: float) -> None:
        bar = recovery.RESUMED_SECONDS_MAX
        resumed = await self.scene.streams.resumed(since, MOST)
        self.scene.note(found, "all streams resumed", resumed, bar)
        delivered = await self.scene.streams.delivered(since, MOST)
        self.scene.note(found, "events are delivered", delivered, bar)
        found.wrong += await self.scene.probe.healthy((SERVICE,))


def most_felt(held: Mapping[int, Sequence[WatcherReading]]) -> int:
    """Of workers, by pid with their clients, the one with the most that want all events, then with
    the most at all: `delivered` looks at those without a filter."""
    return max(held, key=lambda pid: (sum(one.wants_all for one in held[pid]), len(held[pid])))


def stalled(held: Sequence[WatcherReading], since: float) -> bool:
    """Whether a client has got nothing since ``since`` (monotonic), but what was on its way.

    Of those that want all events, if there are any: of others it says little.
    """
    told = [one for one in held if one.wants_all] or held
    return any(
        not one.receipts or one.receipts[-1].at <= since + ON_ITS_WAY_SECONDS for one in told
    )
