"""Faults of analytics: its workers, the whole service, a second one that comes and goes, stores."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from shopstream_stack.chaos import recovery
from shopstream_stack.chaos.faults.scene import MOST, Makers, Scene
from shopstream_stack.chaos.place import SECOND_ANALYTICS
from shopstream_stack.chaos.recovery import Recovery
from shopstream_stack.chaos.schedule import FILLED_BY, WORKERS

SERVICE: Final = "analytics"
DYNAMODB: Final = "analytics-dynamodb"
MINIO: Final = "analytics-minio"


@dataclass(frozen=True, slots=True)
class Sinks:
    """See the module."""

    scene: Scene

    @property
    def makers(self) -> Makers:
        """How each kind is made."""
        place = self.scene.place
        return {
            "worker-kill": self._worker_kill,
            "worker-terminate": self._worker_terminate,
            "worker-stop": self._worker_stop,
            "analytics-kill": self._kill,
            "analytics-terminate": self._terminate,
            "sink-cut": self._sink_cut,
            "store-kill": partial(self._store_away, place.system.kill),
            "store-stop": self._store_stop,
            "store-slow": self._store_slow,
            "store-refuse": self._store_refuse,
            "rebalance": self._rebalance,
        }

    async def _worker_kill(self, found: Recovery) -> None:
        pid = await asyncio.to_thread(self.scene.place.worker, found.target)
        since = time.monotonic()
        self.scene.strike(pid, signal.SIGKILL)
        await self.scene.store(found, since, (found.target,), recovery.STORES_SECONDS_MAX)

    async def _worker_terminate(self, found: Recovery) -> None:
        pid = await asyncio.to_thread(self.scene.place.worker, found.target)
        since = time.monotonic()
        self.scene.strike(pid, signal.SIGTERM)
        gone = await self.scene.probe.pid_gone(pid, since, MOST)
        self.scene.note(found, "ends", gone, recovery.ENDS_SECONDS_MAX)
        bar = recovery.STORES_SECONDS_MAX
        await self.scene.store(found, time.monotonic(), (found.target,), bar)

    async def _worker_stop(self, found: Recovery) -> None:
        pid = await asyncio.to_thread(self.scene.place.worker, found.target)
        self.scene.strike(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(found.fault.seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):  # its parent may have lost patience
                os.kill(pid, signal.SIGCONT)
        await self.scene.store(found, time.monotonic(), (found.target,))

    async def _kill(self, found: Recovery) -> None:
        with self.scene.dead_on_purpose(SERVICE):
            since = time.monotonic()
            await asyncio.to_thread(self.scene.place.system.kill, SERVICE)
            await asyncio.to_thread(self.scene.place.spawn, SERVICE)
            await self.scene.store(found, since, WORKERS, recovery.STORES_SECONDS_MAX)

    async def _terminate(self, found: Recovery) -> None:
        since = time.monotonic()
        with self.scene.dead_on_purpose(SERVICE):
            self.scene.place.signal(SERVICE, signal.SIGTERM)
            await self.scene.asked_to_end(found, SERVICE, since)
            since = time.monotonic()
            await asyncio.to_thread(self.scene.place.spawn, SERVICE)
            await self.scene.store(found, since, WORKERS, recovery.STORES_SECONDS_MAX)

    async def _sink_cut(self, found: Recovery) -> None:
        await self.scene.cut(found)
        await self.scene.store(found, time.monotonic(), FILLED_BY[found.target])

    async def _store_away(self, end: Callable[[str], object], found: Recovery) -> None:
        await self.scene.away(end, found)
        await self.scene.store(found, time.monotonic(), _filling(found.target))

    async def _store_stop(self, found: Recovery) -> None:
        place = self.scene.place
        place.signal(found.target, signal.SIGSTOP)
        try:
            await asyncio.sleep(found.fault.seconds)
        finally:
            place.signal(found.target, signal.SIGCONT)
        await self.scene.store(found, time.monotonic(), _filling(found.target))

    async def _store_slow(self, found: Recovery) -> None:
        with self.scene.bad(found.target) as link:
            link.slow(found.fault.parameters["delay_seconds"])
            await asyncio.sleep(found.fault.seconds)
        await self.scene.store(found, time.monotonic(), FILLED_BY[found.target])

    async def _store_refuse(self, found: Recovery) -> None:
        async with self.scene.place.links[found.target].refusing():
            await asyncio.sleep(found.fault.seconds)
        await self.scene.store(found, time.monotonic(), FILLED_BY[found.target])

    async def _rebalance(self, found: Recovery) -> None:
        """A second service joins while DynamoDB refuses, and goes while MinIO does."""
        place, links = self.scene.place, self.scene.place.links
        bar = recovery.STORES_SECONDS_MAX
        try:
            async with links[DYNAMODB].refusing():
                await asyncio.to_thread(place.spawn, SECOND_ANALYTICS)
                await self._joined(found, "archive")
            async with links[MINIO].refusing():
                await self._joined(found, "aggregates")
                await asyncio.sleep(found.fault.seconds)
                since = time.monotonic()
                if found.fault.parameters["kill"]:
                    await asyncio.to_thread(place.system.kill, SECOND_ANALYTICS)
                else:
                    place.signal(SECOND_ANALYTICS, signal.SIGTERM)
            # The names of those that were killed keep their partitions until the session ends.
            took = await self.scene.probe.has_all_partitions(SERVICE, since, MOST)
            self.scene.note(found, "the first has all partitions", took, bar)
        finally:
            await asyncio.to_thread(place.stop, SECOND_ANALYTICS)
        await self.scene.store(found, time.monotonic(), WORKERS)

    async def _joined(self, found: Recovery, worker: str) -> None:
        since = time.monotonic()
        seconds = await self.scene.probe.has_partitions(SECOND_ANALYTICS, worker, since, MOST)
        bar = recovery.OTHERS_SECONDS_MAX
        self.scene.note(found, f"the second's {worker} has partitions", seconds, bar)


def _filling(store: str) -> tuple[str, ...]:
    return FILLED_BY[f"{SERVICE}-{store}"]
