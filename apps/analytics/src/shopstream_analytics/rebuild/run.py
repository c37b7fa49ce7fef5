"""A rebuild from beginning to end."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.rebuild.job import Done, Job, open_bucket
from shopstream_analytics.rebuild.letters import read_letters
from shopstream_analytics.rebuild.live import LiveItems, await_archive
from shopstream_analytics.rebuild.lives import Lives, read_lives
from shopstream_analytics.rebuild.pool import Work, run_apart, run_here
from shopstream_analytics.rebuild.source import NEVER, Borders
from shopstream_analytics.rebuild.swap import LeftOut, swap
from shopstream_analytics.rebuild.tables import Position, Tables
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_shared.archive.bucket import S3Bucket
from shopstream_shared.archive.end import chain_end
from shopstream_shared.archive.keys import Place, topic_prefix
from shopstream_shared.archive.reader import Index, Stored, generations
from shopstream_shared.clock import epoch_ms
from shopstream_shared.crash import CrashPoints
from shopstream_shared.generations import TopicEpoch, table_of
from shopstream_shared.topics import STREAM_TOPICS

#: An archive of fewer bytes is folded here: other processes would take longer to start.
ALONE_BYTES_MAX: Final = 4 * 1024 * 1024


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was done. ``swapped`` is the generation that was in use before, None without a swap;
    ``left_out`` what that one had and this one has not, which was accepted."""

    generation: int
    table: str
    records: int
    events: int
    unreadable: int
    items: int
    seconds: float
    processor_seconds: float
    compared: bool
    live_items: int
    differing: int
    swapped: int | None
    left_out: list[LeftOut]
    partitions: list[Done]


class Progress(Protocol):
    """Told how far it is."""

    def begin(self, what: str, total: int) -> None:
        """A step of so many parts begins; 0: nobody knows."""
        ...

    def moved(self, done: int) -> None:
        """So many of its parts are done, all in all."""
        ...


def usable_cores() -> int:
    """How many processors this process may use; where nobody says (macOS), all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for."""

    compare: bool = False
    swap: bool = False
    accept_loss: bool = False
    until: datetime | None = None
    processes: int = field(default_factory=usable_cores)


@dataclass(slots=True)
class Rebuild:
    """One rebuild. ``folder``: where what does not fit into memory may go; it must be empty."""

    settings: AnalyticsSettings
    wanted: Wanted
    folder: Path
    progress: Progress
    crash: CrashPoints
    lives: Mapping[str, Lives] = field(default_factory=dict)
    letters: Mapping[Source, frozenset[int]] = field(default_factory=dict)

    def run(self) -> Report:
        """Raises RebuildFailed; nothing that counts has been changed then."""
        began, processor = time.monotonic(), _processor_seconds()
        tables, bucket = Tables.of(self.settings), open_bucket(self.settings)
        current = tables.current()
        # The checkpoints are in here: they are read before the items.
        self.lives = read_lives(self.settings, bucket, tables, current)
        self.letters = read_letters(self.settings)
        live = self._live(tables, current, bucket) if self.wanted.compare else None
        index, size = self._index(bucket)
        generation = tables.begin()
        self.crash.reach("rebuild.after_table")
        jobs = list(self._jobs(live, index))
        done = self._fold(jobs, Work(self.settings, index, self.folder, generation), size)
        self.crash.reach("rebuild.after_items")
        self._place(tables, generation, zip(jobs, done, strict=True))
        left_out: list[LeftOut] = []
        if self.wanted.swap:
            left_out = swap(
                self.settings, tables, generation, current, accept_loss=self.wanted.accept_loss
            )
            self.crash.reach("rebuild.after_swap")
        return Report(
            generation=generation,
            table=table_of(tables.base, generation),
            records=sum(one.records for one in done),
            events=sum(one.events for one in done),
            unreadable=sum(one.unreadable for one in done),
            items=sum(one.items for one in done),
            seconds=time.monotonic() - began,
            processor_seconds=_processor_seconds() - processor,
            compared=live is not None,
            live_items=0 if live is None else live.count,
            differing=sum(one.differing for one in done),
            swapped=current if self.wanted.swap else None,
            left_out=left_out,
            partitions=done,
        )

    def _live(self, tables: Tables, current: int, bucket: S3Bucket) -> LiveItems:
        self.progress.begin("Reading the live items", 0)
        live = LiveItems(self.folder / "live")
        live.read(tables.items(current))
        self.progress.begin("Waiting for the archive", 0)
        known = {
            Source(one.name(epoch.epoch), partition): (one, epoch)
            for one in self.lives.values()
            for epoch in one.epochs
            for partition in range(epoch.partitions)
        }
        if strange := live.sources - known.keys():
            raise RebuildFailed(f"the live table has items of {min(strange)}, which nobody knows")

        # What the archive lacks of a topic that is gone will never come; it shows as a difference.
        coming = {
            source: upto + 1
            for source, upto in live.furthest.items()
            if known[source][1] == known[source][0].present
        }

        def reached(source: Source) -> int:
            one, epoch = known[source]
            place = Place(one.topic, source.partition)
            return chain_end(bucket, place, epoch.epoch, enough=coming[source])

        await_archive(coming, reached, rotate_seconds=self.settings.archive_rotate_seconds)
        return live

    def _index(self, bucket: S3Bucket) -> tuple[Index, int]:
        """All objects of the chains, and how many bytes they have."""
        self.progress.begin("Listing the archive", 0)
        index, size = Index(), 0

        def sized(found: Iterable[Stored]) -> Iterator[Stored]:
            nonlocal size
            for one in found:
                size += one.bytes
                yield one

        known = {(epoch.epoch, one.topic) for one in self.lives.values() for epoch in one.epochs}
        for life in generations(bucket):
            for topic in STREAM_TOPICS:
                index.add(sized(bucket.list(topic_prefix(topic, life))))
        for life, place in index.chains():
            if (life, place.topic) not in known:
                raise RebuildFailed(
                    f"the archive has an epoch {life} of {place.topic}, unknown here"
                )
        return index, size

    def _jobs(self, live: LiveItems | None, index: Index) -> Iterator[Job]:
        chains = index.chains()
        for topic, one in self.lives.items():
            for epoch in one.epochs:
                found = {
                    p.partition for life, p in chains if (life, p.topic) == (epoch.epoch, topic)
                }
                for partition in sorted({*range(epoch.partitions), *found}):
                    borders = self._borders(one, epoch, partition, live)
                    source = Source(one.name(epoch.epoch), partition)
                    spill = None if live is None else live.spill(source)
                    yield Job(topic, epoch.epoch, epoch.topic_id, partition, borders, spill)

    def _borders(
        self, one: Lives, epoch: TopicEpoch, partition: int, live: LiveItems | None
    ) -> Borders:
        until = None if self.wanted.until is None else epoch_ms(self.wanted.until)
        letters = one.letters_from(epoch.epoch, partition)
        source = Source(one.name(epoch.epoch), partition)
        standing = self.letters.get(source, frozenset())
        if live is None:
            return Borders(NEVER, -1, letters, until, standing)
        furthest = live.furthest.get(source, -1)
        settled = one.checkpoints.get((epoch.epoch, partition), 0)
        return Borders(settled, furthest, letters, until, standing)

    def _fold(self, jobs: list[Job], work: Work, size: int) -> list[Done]:
        self.progress.begin("Folding the archive", len(work.index))
        if size <= ALONE_BYTES_MAX or self.wanted.processes == 1:
            return run_here(work, jobs, self.progress.moved)
        return run_apart(work, jobs, self.progress.moved, self.wanted.processes)

    def _place(self, tables: Tables, generation: int, done: Iterable[tuple[Job, Done]]) -> None:
        """Where the workers go on from, then the mark that the generation is whole."""
        for job, one in done:
            # Without a chain the worker begins where the log does, as with a new table.
            if one.begin is not None:
                part = job.topic, job.topic_id, job.partition
                tables.place(generation, part, Position(one.begin, one.next), one.time)
            tables.count(generation, (job.topic, job.topic_id, job.partition), one.letters)
        for topic, lives in self.lives.items():
            tables.note(generation, topic, lives.noted)
        self.crash.reach("rebuild.after_checkpoints")
        tables.complete(generation)
        self.crash.reach("rebuild.after_complete")


def _processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
