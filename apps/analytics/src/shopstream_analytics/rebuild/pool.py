"""A process a core for the jobs of one rebuild."""

import gc
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shopstream_analytics.rebuild.job import Done, Job, Rebuilder, open_bucket
from shopstream_analytics.rebuild.tables import Tables
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_shared.archive.keys import Place
from shopstream_shared.archive.reader import Index

PROGRESS_SECONDS: Final = 0.5

#: Thousands of events live until their round is folded, and there is hardly a cycle among them. The
#: collector's own thresholds (700, 10, 10) looked through them all the time: 40,000 events in a
#: second of processor time, 58,000 with these.
COLLECT_AFTER: Final = (100_000, 50, 100)

#: What a process was given at its start; there is no other way into one.
_mine: list[Rebuilder] = []


@dataclass(frozen=True, slots=True)
class Work:
    """What all jobs share."""

    settings: AnalyticsSettings
    index: Index
    folder: Path
    generation: int

    def here(self, moved: Callable[[int], None]) -> Rebuilder:
        """Something that does jobs in this process."""
        tables, bucket = Tables.of(self.settings), open_bucket(self.settings)
        return Rebuilder(tables, bucket, self.index, self.folder, self.generation, moved)


def collect_seldom() -> None:
    """Set the garbage collector of this process up for a rebuild."""
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def run_here(work: Work, jobs: Sequence[Job], moved: Callable[[int], None]) -> list[Done]:
    """One after the other. Raises RebuildFailed. ``moved`` is told of all objects read so far."""
    objects = 0

    def count(more: int) -> None:
        nonlocal objects
        objects += more
        moved(objects)

    rebuilder = work.here(count)
    return [rebuilder.do(job) for job in jobs]


def run_apart(
    work: Work, jobs: Sequence[Job], moved: Callable[[int], None], processes: int
) -> list[Done]:
    """As `run_here`, in so many processes."""
    context = multiprocessing.get_context("spawn")
    objects: Any = context.Value("q", 0)
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(work, objects)
    )
    try:
        # The longest chains first, so that at the end no process is alone with one.
        order = sorted(range(len(jobs)), key=lambda number: -_length(work.index, jobs[number]))
        futures: dict[Future[Done], int] = {
            pool.submit(_do, jobs[number]): number for number in order
        }
        left = set(futures)
        while left:
            landed, left = wait(left, PROGRESS_SECONDS, FIRST_COMPLETED)
            for future in landed:
                future.result()
            moved(objects.value)
    finally:
        pool.shutdown(cancel_futures=True)
    done = {number: future.result() for future, number in futures.items()}
    return [done[number] for number in range(len(jobs))]


def _begin(work: Work, objects: Any) -> None:
    def count(more: int) -> None:
        with objects.get_lock():
            objects.value += more

    collect_seldom()
    _mine.append(work.here(count))


def _do(job: Job) -> Done:
    return _mine[0].do(job)


def _length(index: Index, job: Job) -> int:
    return sum(1 for _ in index.keys(Place(job.topic, job.partition), job.epoch))
