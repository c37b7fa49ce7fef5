"""Makes one fault, ends it, and measures how long the system took to be as before."""

import os
import time
from collections.abc import Mapping

import psutil
import psycopg

from shopstream_stack.chaos.faults.front import Front
from shopstream_stack.chaos.faults.scene import Make, Scene
from shopstream_stack.chaos.faults.sinks import Sinks
from shopstream_stack.chaos.faults.stream import Stream
from shopstream_stack.chaos.recovery import Recovery
from shopstream_stack.chaos.schedule import FAULTS, LEADER, Fault
from shopstream_stack.errors import StackError


class Inflict:
    """Makes faults, one at a time. ``began`` (monotonic) is where times count from."""

    def __init__(self, scene: Scene, began: float) -> None:
        self._scene = scene
        self._began = began
        self._makers: Mapping[str, Make] = {
            **Front(scene).makers,
            **Stream(scene).makers,
            **Sinks(scene).makers,
        }
        unmade = FAULTS.keys() ^ self._makers.keys()
        if unmade:
            raise StackError(f"no way to make or no row in FAULTS: {', '.join(sorted(unmade))}")

    async def __call__(self, fault: Fault) -> Recovery:
        """Make the fault and wait until it is over; never raises because of what it did."""
        found = Recovery(fault, fault.target, began=self._now())
        try:
            if fault.target.startswith(LEADER):
                leader = await self._scene.probe.leader()
                found.target = fault.target.replace(LEADER, leader, 1)
                found.began = self._now()
            await self._makers[fault.kind](found)
        except (StackError, psycopg.Error, psutil.Error, OSError) as error:
            found.wrong.append(str(error))
        found.ended = self._now()
        if not found.holds:
            # A bar of seconds says little about a machine that has other work.
            found.notes.append(f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} processors")
        return found

    def _now(self) -> float:
        return time.monotonic() - self._began
