"""What all families of faults share: where they are made, what is noted, how long is waited."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from shopstream_stack.chaos import recovery
from shopstream_stack.chaos.deaths import Meant
from shopstream_stack.chaos.link import Link
from shopstream_stack.chaos.place import APIS, Place
from shopstream_stack.chaos.probe import Probe
from shopstream_stack.chaos.recovery import Measure, Recovery
from shopstream_stack.chaos.streams import Streams
from shopstream_stack.demo.crowd import until

#: Makes a fault, ends it, and notes what it measured.
Make = Callable[[Recovery], Awaitable[None]]
Makers = Mapping[str, Make]

MOST: Final = recovery.WAIT_SECONDS_MAX


@dataclass(slots=True)
class Scene:
    """One run's. ``busy`` holds the processes that are dead on purpose, ``hit`` the pids of workers
    that a fault ended or stopped; each bar is taken ``patience`` times."""

    place: Place
    probe: Probe
    streams: Streams
    patience: float
    busy: set[str] = field(default_factory=set)
    hit: set[int] = field(default_factory=set)
    #: When topics were made again: from when until when.
    made_again: list[tuple[datetime, datetime]] = field(default_factory=list)

    def note(self, found: Recovery, what: str, seconds: float | None, bar: float) -> None:
        """Add a measure; ``bar`` is the promised one."""
        found.measures.append(Measure(what, seconds, bar * self.patience))

    @contextmanager
    def dead_on_purpose(self, name: str) -> Iterator[None]:
        self.busy.add(name)
        try:
            yield
        finally:
            self.busy.discard(name)

    @contextmanager
    def topics_made_again(self) -> Iterator[None]:
        """For the length of the block workers may find other topics, and begin anew."""
        begun = datetime.now(UTC)
        try:
            yield
        finally:
            self.made_again.append((begun, datetime.now(UTC)))

    @property
    def meant(self) -> Meant:
        """What of the workers' ends the run has brought about."""
        return Meant(self.hit, self.made_again)

    def strike(self, pid: int, number: signal.Signals) -> None:
        """Send a worker a signal that may end it. Raises ProcessLookupError."""
        self.hit.add(pid)
        os.kill(pid, number)

    @contextmanager
    def bad(self, name: str) -> Iterator[Link]:
        """A link, as good as new at the end."""
        link = self.place.links[name]
        try:
            yield link
        finally:
            link.heal()

    async def back(
        self,
        found: Recovery,
        since: float,
        serves_max: float = recovery.OTHERS_SECONDS_MAX,
        publishes_max: float = recovery.OTHERS_SECONDS_MAX,
    ) -> None:
        """Measure until the API serves, the target's own process if it is one, and events flow."""
        name = found.target if found.target in APIS else APIS[0]
        asked = [self.probe.publishes(since, MOST)]
        if found.target != "relay":
            asked.append(self.probe.serves(name, since, MOST))
        publishes, *serves = await asyncio.gather(*asked)
        for one in serves:
            self.note(found, f"{name} serves", one, serves_max)
        self.note(found, "events are published", publishes, publishes_max)

    async def store(
        self,
        found: Recovery,
        since: float,
        workers: tuple[str, ...],
        bar: float = recovery.OTHERS_SECONDS_MAX,
    ) -> None:
        """Measure until these workers take records in; the rest of the system never stopped."""
        _, *stored = await asyncio.gather(
            self.back(found, since), *(self.probe.stores(one, since, MOST) for one in workers)
        )
        for worker, seconds in zip(workers, stored, strict=True):
            self.note(found, f"{worker} stores", seconds, bar)
        found.wrong += await self.probe.healthy(("analytics",))

    async def happened(self, found: Recovery, count: Callable[[], int], what: str) -> None:
        """Wait until it happened as often as planned, at most as long as planned."""
        times = found.fault.parameters["times"]
        await until(lambda: count() >= times, found.fault.parameters["within_seconds"])
        found.notes.append(f"{count()} {what}")
        if not count():
            found.wrong.append("the fault never happened")

    async def cut(self, found: Recovery) -> None:
        """Reset the target link's connections after so many bytes, so many times."""
        parameters = found.fault.parameters
        with self.bad(found.target) as link:
            before = link.cuts
            link.cut_after(int(parameters["bytes"]), int(parameters["times"]))
            await self.happened(found, lambda: link.cuts - before, "connections cut")

    async def away(self, end: Callable[[str], object], found: Recovery) -> None:
        """End a component, leave it away for the fault's seconds, start it again."""
        name, since = found.target, time.monotonic()
        with self.dead_on_purpose(name):
            await asyncio.to_thread(end, name)
            await asyncio.sleep(found.fault.seconds)
            await asyncio.to_thread(self.place.start, name)
            found.notes.append(f"away for {time.monotonic() - since:.1f} s")

    async def asked_to_end(self, found: Recovery, name: str, since: float) -> None:
        """Measure until a service that got SIGTERM is gone; what hangs is killed."""
        gone = await self.probe.gone(name, since, MOST)
        self.note(found, "ends", gone, recovery.ENDS_SECONDS_MAX)
        await asyncio.to_thread(self.place.stop, name)  # its pid file, or what hangs
