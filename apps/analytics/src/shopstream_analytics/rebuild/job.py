"""One partition from archive to table: what a process of the rebuild does."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import msgspec
from botocore.config import Config

from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dynamo import CONNECT_SECONDS, READ_SECONDS
from shopstream_analytics.rebuild.compare import SHOWN_MAX, Difference, differences
from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.rebuild.source import Borders, ItemRows, SourceFold, items_of
from shopstream_analytics.rebuild.spill import Spill
from shopstream_analytics.rebuild.store import CALL_TRIES_MAX, Item
from shopstream_analytics.rebuild.tables import Tables
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_shared.archive.bucket import S3Bucket
from shopstream_shared.archive.keys import Damaged, Place
from shopstream_shared.archive.reader import Broken, Index, Walk
from shopstream_shared.generations import source_name

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class Job:
    """One chain. ``live``: the live items of the same source, None when nothing is compared."""

    topic: str
    epoch: int
    topic_id: str
    partition: int
    borders: Borders
    live: Spill | None

    @property
    def items(self) -> Source:
        """What the items call this source."""
        return Source(source_name(self.topic, self.epoch), self.partition)

    def __str__(self) -> str:
        return str(self.items)


class Done(msgspec.Struct, frozen=True):
    """What became of a job. ``begin`` is where its chain begins, None where there is none; ``next``
    the position at which the rebuilt items end, ``time`` partition time there, ``letters`` the
    offsets in them that have a dead letter."""

    source: str
    begin: int | None
    next: int
    time: str
    records: int
    events: int
    unreadable: int
    items: int
    differing: int
    differences: list[Difference]
    letters: list[int] = []


@dataclass(frozen=True, slots=True)
class Rebuilder:
    """Does jobs: ``generation`` is the one to write, ``moved`` is told of objects read."""

    tables: Tables
    bucket: S3Bucket
    index: Index
    folder: Path
    generation: int
    moved: Callable[[int], None]

    def do(self, job: Job) -> Done:
        """Fold, write, compare. Raises RebuildFailed."""
        folder = self.folder / f"{job.items.topic}+{job.partition}"
        folder.mkdir()
        try:
            return self._do(job, Spill(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _do(self, job: Job, spill: Spill) -> Done:
        place = Place(job.topic, job.partition)
        folded = SourceFold(place, job.items, job.borders, spill)
        walk = Walk(self.bucket, place, job.topic_id)
        self._fold(job, folded, walk)
        end = walk.next if folded.cut is None else folded.cut
        written = self.tables.write(self.generation, _new_items(items_of(spill.rows()), end))
        found: list[Difference] = []
        differing = 0
        if job.live is not None:
            off = differences(job.live.rows(), items_of(spill.rows()))
            found = list(islice(off, SHOWN_MAX))
            differing = len(found) + sum(1 for _ in off)
        return Done(
            source=str(job),
            begin=walk.start,
            next=end,
            time=folded.time.as_text(end),
            records=folded.counted.records,
            events=folded.counted.events,
            unreadable=folded.counted.unreadable,
            items=written,
            differing=differing,
            differences=found,
            letters=folded.letters,
        )

    def _fold(self, job: Job, folded: SourceFold, walk: Walk) -> None:
        try:
            for key in self.index.keys(folded.place, job.epoch):
                for lines in walk.object(key):
                    folded.take(lines)
                self.moved(1)
                if not folded.wants_more:
                    break
        except (Broken, Damaged) as error:
            raise RebuildFailed(f"{job}: the archive cannot be folded: {error}") from error
        folded.finish()


def _new_items(items: Iterator[ItemRows], end: int) -> Iterator[Item]:
    """The items as the worker would have written them up to the position ``end``."""
    for item in items:
        cell = item.up_to(end - 1)
        if cell is not None:
            counters: dict[str, Any] = {
                name: {"N": str(amount)} for name, amount in cell.counters.items()
            }
            yield {
                **counters,
                "pk": {"S": item.pk},
                "sk": {"S": item.sk},
                "upto": {"N": str(cell.last)},
            }


def open_bucket(settings: AnalyticsSettings) -> S3Bucket:
    """The archive, read by blocking calls."""
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=settings.minio_endpoint,
        region_name=settings.aws_region,
        aws_access_key_id=settings.minio_access_key.get_secret_value(),
        aws_secret_access_key=settings.minio_secret_key.get_secret_value(),
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": CALL_TRIES_MAX, "mode": "standard"},
            # Path style: MinIO has no host name a bucket.
            s3={"addressing_style": "path"},
        ),
    )
    return S3Bucket(client, settings.archive_bucket, _away)


def _away(error: Exception) -> RebuildFailed:
    return RebuildFailed(f"archive: {error}")
