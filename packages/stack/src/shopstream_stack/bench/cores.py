"""Which core what is measured may use."""

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

import psutil


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
