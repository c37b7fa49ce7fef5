"""One check of a running system, from the cut to the report."""

import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from shopstream_shared.boundaries import Boundary
from shopstream_shared.clock import Clock, SystemClock, epoch_ms
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.console import Reporter, Silent
from shopstream_stack.demo.stores import dynamodb_client, s3_client
from shopstream_stack.demo.target import Target
from shopstream_stack.verify import (
    aggregate_checks,
    client_checks,
    log_checks,
    sink_checks,
    state_checks,
)
from shopstream_stack.verify.archive import Archive, Chain
from shopstream_stack.verify.cut import Cut, Cutter, await_all
from shopstream_stack.verify.database import Database, Snapshot
from shopstream_stack.verify.generations import GENERATIONS, generations
from shopstream_stack.verify.journals import Journals
from shopstream_stack.verify.lives import Lives, real_place
from shopstream_stack.verify.log import Log, Place
from shopstream_stack.verify.report import TITLES, Invariant, PartitionCut, Report
from shopstream_stack.verify.scan import Range, Scan
from shopstream_stack.verify.spool import Spool
from shopstream_stack.verify.tables import AGGREGATES, RECENT, Tables
from shopstream_stack.verify.waits import Waits

#: In the data directory.
FOLDER: Final = "verify"

CUT: Final = {
    "topic": "VARCHAR",
    "part": "BIGINT",
    "e0": "BIGINT",
    "e1": "BIGINT",
    # How far the aggregates' and RecentEvents' workers say they are, before their items are read.
    "checkpoint": "BIGINT",
    "recent": "BIGINT",
}
LETTERS: Final = {"topic": "VARCHAR", "part": "BIGINT", "off": "BIGINT"}
# How far each partition's items have come; a key ends with topic, partition and bucket.
_UPTO: Final = """
    SELECT regexp_extract(key, '#([^#|]*)#[0-9]+[|]', 1) AS topic,
           CAST(regexp_extract(key, '#([0-9]+)[|]', 1) AS BIGINT) AS part, max(upto) + 1
    FROM items WHERE regexp_matches(key, '#[0-9]+[|]') GROUP BY 1, 2
"""


def verify(
    target: Target,
    journals: Sequence[Path] = (),
    *,
    data: Path,
    clock: Clock | None = None,
    reporter: Reporter | None = None,
    waits: Waits | None = None,
) -> Report:
    """Check every invariant of a system that is up; writes may go on.

    ``journals``: files, or folders of them. ``data``: where the check may put what does not fit
    into memory; it leaves nothing there. Blocking. Raises StackError when a component does not
    answer.
    """
    with _folder(data) as folder, Spool.open(folder) as spool:
        check = Check(
            target=target,
            spool=spool,
            clock=clock or SystemClock(),
            reporter=reporter or Silent(),
            waits=waits or Waits(),
        )
        return check.run(journals)


@dataclass(slots=True)
class Sinks:
    """How far the workers of analytics have come, and what they could not be asked."""

    checkpoints: dict[Place, int] = field(default_factory=dict)
    recent: dict[Place, int] = field(default_factory=dict)
    #: When RecentEvents was read, in microseconds since 1970.
    read_at: int = 0


@dataclass(slots=True)
class Check:
    """The steps of one check, in the order that the cut needs."""

    target: Target
    spool: Spool
    clock: Clock
    reporter: Reporter
    waits: Waits
    rows: dict[int, Invariant] = field(
        default_factory=lambda: {number: Invariant(number) for number in TITLES}
    )
    notes: list[str] = field(default_factory=list)
    #: Dead letters that were replayed, or counted by a rebuild.
    replayed: set[tuple[str, int, int]] = field(default_factory=set)
    #: Where topics got more partitions that are no more; replays of the present ones go by the log.
    bygone: list[Boundary] = field(default_factory=list)

    def run(self, paths: Sequence[Path]) -> Report:
        """Everything, once."""
        with (
            closing(s3_client(self.target)) as s3,
            closing(dynamodb_client(self.target)) as dynamodb,
        ):
            return self._run(paths, Archive(self.target, s3), Tables(self.target, dynamodb))

    def _run(self, paths: Sequence[Path], archive: Archive, tables: Tables) -> Report:
        began, at = time.monotonic(), self.clock.now()
        log = Log(self.target.kafka_brokers)
        with self.reporter.step("Looking for the components"):
            # All of them before any wait: what is away is said at once.
            topic_ids, missing, bucket = log.topic_ids(), tables.missing(), archive.exists()
            if bucket:
                archive.lives = Lives.read(archive.bucket, topic_ids)
        journals = self._journals(paths)
        earlier = dict(archive.lives.earlier())
        cut = self._cut(log, journals, set(earlier.values()))
        ids = {place: topic_ids[place.topic] for place in cut.e1} | earlier
        sinks = self._sinks(tables, missing, archive.lives, ids, cut)
        if not missing:
            self.replayed = tables.replayed(ids)
        ranges = self._ranges(log, archive if bucket else None, cut)
        ranges |= self._bygone(archive, earlier, cut)
        chains = self._scan(log, archive if bucket else None, ids, ranges)
        self._generations(log, ids)
        self._judge(cut, sinks, chains, journals)
        return Report(
            at=at,
            seconds=time.monotonic() - began,
            invariants=list(self.rows.values()),
            cut=self._positions(cut, ranges, chains),
            notes=self.notes,
        )

    def _journals(self, paths: Sequence[Path]) -> Journals:
        journals = Journals(self.spool)
        with self.reporter.step("Reading the journals"):
            journals.read(paths)
        for number in (7, 8):
            if not paths:
                self.rows[number].unchecked.append("no journal was given")
            elif journals.files == 0:
                self.rows[number].unchecked.append("there is no journal")
            elif journals.old:
                self.rows[number].unchecked.append(f"of an older format: {journals.old[0]}")
        self.rows[7].counted |= {
            "clients": journals.clients,
            "connections": journals.connections,
            "events": journals.events,
        }
        self.rows[8].counted |= {"writes": journals.writes}
        return journals

    def _cut(self, log: Log, journals: Journals, bygone: Collection[str]) -> Cut:
        """The cut, and all that is asked of the snapshot: it is not kept open longer.

        ``bygone``: ids of topics that are no more.
        """
        database = Database(self.target.database_url)
        cutter = Cutter(log, database, self.waits)
        with self.reporter.step("Waiting for open transactions"):
            cut = cutter.begin()
        with database.snapshot() as snapshot:
            self._state(snapshot, journals)
            self.bygone = [one for one in snapshot.boundaries() if one.topic_id in bygone]
            with self.reporter.step("Waiting until the snapshot's outbox is published"):
                cutter.finish(cut, snapshot)
            database.unpublished_into(self.spool, snapshot.last_seq)
        self.notes += cut.late
        return cut

    def _state(self, snapshot: Snapshot, journals: Journals) -> None:
        with self.reporter.step("Stock, reservations and acknowledged writes in PostgreSQL"):
            state_checks.stock(snapshot, self.rows[6])
            if journals.files:
                state_checks.acknowledged(self.spool, snapshot, self.rows[8])
        with self.reporter.step("Reading versions and audit from PostgreSQL"):
            snapshot.copy_into(self.spool)

    def _sinks(
        self,
        tables: Tables,
        missing: list[str],
        lives: Lives,
        ids: Mapping[Place, str],
        cut: Cut,
    ) -> Sinks:
        sinks = Sinks()
        if missing:
            for number in (4, 5):
                self.rows[number].unchecked.append(f"no table {', '.join(missing)}")
            return sinks
        for number, consumer, reached in (
            (4, AGGREGATES, sinks.checkpoints),
            (5, RECENT, sinks.recent),
        ):

            def at(place: Place, consumer: str = consumer) -> int:
                return tables.checkpoint(consumer, ids[place], real_place(place))

            with self.reporter.step(f"Waiting for {consumer}"):
                late = await_all(self.waits, cut.needed, at)
            if late:
                self.rows[number].unchecked.append(f"{consumer} did not come: {', '.join(late)}")
            reached.update({place: at(place) for place in ids})
        with self.reporter.step("Reading the aggregates"):
            if not tables.items_into(self.spool, lives):
                why = "the aggregates were swapped meanwhile; call verify again"
                self.rows[4].unchecked.append(why)
        with self.reporter.step("Reading RecentEvents"):
            sinks.read_at = epoch_ms(self.clock.now()) * 1_000
            tables.recent_into(self.spool)
        return sinks

    def _ranges(self, log: Log, archive: Archive | None, cut: Cut) -> dict[Place, Range]:
        """What to read: to the stable end, so that whatever the sinks hold is seen on the log.

        The archive must have come as far as the items have, for they are held against it.
        """
        starts, ends = log.starts(cut.e1), log.stable_ends(cut.e1)
        ranges = {place: Range(starts[place], ends[place]) for place in cut.e1}
        if archive is None:
            self._unarchived(f"no archive: no bucket {self.target.archive_bucket}")
            return ranges
        needed = dict(cut.needed)
        if not self.rows[4].unchecked:
            for topic, part, upto in self.spool.rows(_UPTO):
                place = Place(topic, part)
                if place in needed:
                    needed[place] = max(needed[place], upto)
        with self.reporter.step("Waiting for the archive"):
            more = self.target.archive_rotate_seconds

            def at(place: Place) -> int:
                return archive.reached(place, enough=needed[place])

            late = await_all(self.waits, needed, at, more_seconds=more)
        if late:
            self._unarchived(f"analytics-archive did not come: {', '.join(late)}")
        return ranges

    def _bygone(
        self, archive: Archive, earlier: Mapping[Place, str], cut: Cut
    ) -> dict[Place, Range]:
        """Lives of topics that are over: all of what is archived, and nothing on the log."""
        ends = {place: archive.reached(place) for place in earlier}
        cut.e0 = {**cut.e0, **ends}
        cut.e1.update(ends)
        return {place: Range(end, end) for place, end in ends.items()}

    def _unarchived(self, why: str) -> None:
        for number in (3, 4):
            self.rows[number].unchecked.append(why)

    def _scan(
        self,
        log: Log,
        archive: Archive | None,
        ids: Mapping[Place, str],
        ranges: Mapping[Place, Range],
    ) -> dict[Place, Chain]:
        row = self.rows[3]
        row.look_for("missing", "duplicate", "phantom", "altered", "gap", "damaged", "foreign")
        if archive is not None:
            archive.list_into(self.spool, STREAM_TOPICS)
        lives = Lives() if archive is None else archive.lives
        total = sum(within.end - within.start for within in ranges.values())
        # After the items were read: whatever they have passed over has its letter by now.
        self._letters(log, lives)
        with self.reporter.bar("Reading records of log and archive side by side", total) as advance:
            scan = Scan(self.spool, log, archive, ids, row, advance, self._aside)
            chains = scan.run(ranges)
        row.counted["objects"] = sum(chain.objects for chain in chains.values())
        row.counted["records"] = self.spool.number("SELECT count(*) FROM log WHERE archived")
        return chains

    def _letters(self, log: Log, lives: Lives) -> None:
        """Fill the tables of letters: those that count nowhere, and all, replayed or not."""
        with (
            self.spool.table("letters", LETTERS) as letters,
            self.spool.table("aside", LETTERS) as aside,
        ):
            for topic, epoch, number, offset in log.letters():
                place = lives.place(topic, epoch, number)
                aside.add((*place, offset))
                aside.checkpoint()
                # One that was taken in after all counts as any other event.
                if (*place, offset) not in self.replayed:
                    letters.add((*place, offset))
                    letters.checkpoint()

    def _aside(self, place: Place) -> Iterator[int]:
        found = self.spool.stream(
            "SELECT DISTINCT off FROM aside WHERE topic = ? AND part = ? ORDER BY off", place
        )
        return (offset for (offset,) in found)

    def _generations(self, log: Log, ids: Mapping[Place, str]) -> None:
        # Read this late nothing is missing: what came after the ranges bounds nothing in them.
        with self.spool.table("generations", GENERATIONS) as table:
            for row in generations(ids, (*self.bygone, *log.boundaries())):
                table.add(row)

    def _judge(
        self,
        cut: Cut,
        sinks: Sinks,
        chains: Mapping[Place, Chain],
        journals: Journals,
    ) -> None:
        with self.spool.table("cut", CUT) as table:
            for place, end in cut.e1.items():
                checkpoint = sinks.checkpoints.get(place, 0)
                recent = min(end, sinks.recent.get(place, 0))
                table.add((*place, cut.e0.get(place, 0), end, checkpoint, recent))
        with self.reporter.step("Versions against the log"):
            log_checks.prepare(self.spool)
            log_checks.versions_on_log(self.spool, self.rows[1])
            log_checks.no_phantoms(self.spool, self.rows[2])
        with self.reporter.step("Aggregates against archive and database"):
            sink_checks.sums(self.spool, self.rows[4])
            if not any("table" in why or "archive" in why for why in self.rows[4].unchecked):
                aggregate_checks.aggregates(self.spool, self.rows[4])
        if sinks.read_at:
            with self.reporter.step("RecentEvents against the log"):
                sink_checks.recent_events(self.spool, self.rows[5], sinks.read_at)
        if journals.files:
            with self.reporter.step("Clients against the log"):
                client_checks.received(self.spool, self.rows[7])

    def _positions(
        self, cut: Cut, ranges: Mapping[Place, Range], chains: Mapping[Place, Chain]
    ) -> list[PartitionCut]:
        found = []
        for place, within in ranges.items():
            chain = chains.get(place)
            start = chain.start if chain is not None and chain.start is not None else 0
            following = chain.next if chain is not None else 0
            if within.start > 0:
                stands = f"from the archive alone, {start} on" if following else "not at all"
                self.notes.append(f"{place} below {within.start} was checked {stands}")
            found.append(
                PartitionCut(
                    *place, within.start, cut.e0.get(place, 0), cut.e1[place], start, following
                )
            )
        return found


@contextmanager
def _folder(data: Path) -> Iterator[Path]:
    """A folder of this check's own; what checks that were killed have left is removed."""
    parent = data / FOLDER
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("spool-*"):
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"spool-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
