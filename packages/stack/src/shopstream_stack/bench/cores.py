"""Which core what is measured may use, and what a place that pins has in common with others."""

import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass

import psutil

from shopstream_stack.system import System


def own_cores() -> Sequence[int]:
    """Those that this process may use, in order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return [0]


def pin(pid: int, cores: AbstractSet[int]) -> None:
    """Keep a process, all its threads and all its children on these cores, where that exists."""
    if not hasattr(os, "sched_setaffinity"):
        return
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            for thread in one.threads():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, cores)


@dataclass(slots=True)
class PinnedPlace:
    """A running system, of which what is measured gets the first core where there are more."""

    system: System
    cores: Sequence[int]

    @property
    def brokers(self) -> str:
        return self.system.settings.addresses["KAFKA_BROKERS"]

    @property
    def pinned(self) -> bool:
        """Whether what is measured can have a core to itself."""
        return len(self.cores) > 1

    def about(self) -> Mapping[str, str]:
        """What else must be known of the figures."""
        return {"pinned": "yes" if self.pinned else "no, there is one core"}
