"""One set of metrics for several processes: each writes its own files, any of them sums all.

The files are named by slot, not by process: a successor in a slot goes on counting where its
predecessor ended, so that no sum ever falls, and there are never more files than slots. Gauges
count the living: the parent removes those of a slot whose process has ended.
"""

from pathlib import Path

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

#: What the library reads, both when it is imported and at each new metric.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def write_as(slot: int) -> None:
    """Let all metrics made from now on write the slot's files, in the folder of VARIABLE."""
    # The documented way to name files by something steadier than a process id.
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


def sum_of_all(folder: Path) -> CollectorRegistry:
    """What ``/metrics`` shows: the sum over the folder, read anew each time."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    return registry


def forget_gauges(slot: int, folder: Path) -> None:
    """The slot's process has ended: what it held is no more, what it counted stays."""
    mark_process_dead(slot, path=str(folder))  # type: ignore[no-untyped-call]
