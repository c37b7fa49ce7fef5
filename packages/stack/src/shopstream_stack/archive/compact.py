"""`archive compact`: a day of a topic as Parquet, beside the chain, which stays as it is.

A part is an object ``parquet/topic=T/year=…/month=…/day=…/part-00000.parquet``. Its metadata says
which positions of which partitions it covers, so a part is made once (``If-None-Match``) and never
changed: another call adds what is not covered yet as a further part, two at once cannot double a
record, and one that is killed leaves nothing.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, Self

import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError, ClientError

from shopstream_shared.archive.keys import (
    PARQUET,
    Damaged,
    ObjectKey,
    Place,
    below,
    day_prefix,
    topic_prefix,
)
from shopstream_shared.archive.lines import read_line
from shopstream_shared.archive.reader import (
    Broken,
    Bucket,
    Index,
    Walk,
    generations,
    index_of,
    link_of,
)
from shopstream_stack.archive.columns import Columns
from shopstream_stack.archive.place import ArchivePlace
from shopstream_stack.archive.times import day_ends
from shopstream_stack.errors import StackError

#: Rows and bytes of a row group, which is what is in memory at any time.
GROUP_ROWS: Final = 20_000
GROUP_BYTES: Final = 33_554_432
#: Rows of a part: a few hundred megabytes at most, quick to read side by side.
PART_ROWS: Final = 2_000_000
#: S3 allows 2 KiB of metadata; what is covered is told in this much of it.
COVERED_LENGTH_MAX: Final = 1_400
#: A partition and two offsets, with what stands between them.
RANGE_LENGTH_MAX: Final = 48
#: How long after a day's end, beyond the age at which a file is cut, a chain that has not gone on
#: counts as ended.
CLOSED_AFTER_SECONDS: Final = 3_600
#: Two compactions at once get out of each other's way this often.
TRIES_MAX: Final = 5
_TAKEN: Final = frozenset({"PreconditionFailed", "412", "304"})

Covered = dict[int, list[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet object."""

    key: str
    rows: int
    covers: Covered


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What is to be compacted."""

    topic: str
    day: str
    generation: int = 0

    @property
    def prefix(self) -> str:
        return parquet_prefix(self.topic, self.day, self.generation)

    def __str__(self) -> str:
        return f"{self.topic} of {self.day}"


class Made(NamedTuple):
    """The parts that were made, none where nothing was missing.

    ``behind``: chains that had not gone on beyond the day, so that only the time that has passed
    says that it is closed. What they get of it later is for another call.
    """

    parts: list[Part]
    behind: list[Place]


class DayIsOpen(StackError):
    """The day may still get records: a part of it now would be only a part."""


class _Taken(Exception):
    """Somebody else made this part a moment ago."""


def parquet_prefix(topic: str, day: str, generation: int = 0) -> str:
    """Where a day's parts lie."""
    return below(PARQUET, day_prefix(topic, day, generation))


def compact(place: ArchivePlace, day: Day, now: datetime, advance: Callable[[int], None]) -> Made:
    """Add what is not covered yet.

    Raises DayIsOpen, and StackError where the chain is broken or the bucket fails.
    """
    made = Made([], [])
    tries = 0
    while True:
        try:
            index = index_of(place.bucket, [day.topic], day.generation)
            made = made._replace(behind=_require_closed(place, index, day, now))
            made.parts.extend(_missing_parts(place, index, day, advance))
        except _Taken:
            tries += 1
            if tries >= TRIES_MAX:
                raise StackError(f"{day}: others compact it at the same time") from None
        except Broken as error:
            raise StackError(f"{day}: {error}; see `shopstream archive verify`") from None
        else:
            return made


def parts(bucket: Bucket, day: Day) -> list[Part]:
    """The parts that there are, in order. Raises StackError for one that does not say itself."""
    found = []
    for stored in bucket.list(day.prefix):
        try:
            metadata = bucket.head(stored.key)
            found.append(Part(stored.key, int(metadata["rows"]), read_covers(metadata["covers"])))
        except (KeyError, ValueError):
            raise StackError(f"{stored.key} is no part that `archive compact` made") from None
    return found


def write_covers(covers: Covered) -> str:
    """``partition:start-next,start-next;…``, for metadata."""
    return ";".join(
        f"{partition}:" + ",".join(f"{start}-{following}" for start, following in ranges)
        for partition, ranges in sorted(covers.items())
    )


def read_covers(text: str) -> Covered:
    """Raises ValueError."""
    covers: Covered = {}
    for part in filter(None, text.split(";")):
        partition, _, ranges = part.partition(":")
        covers[int(partition)] = [
            (int(start), int(following))
            for start, following in (one.split("-") for one in ranges.split(","))
        ]
    return covers


def _missing_parts(
    place: ArchivePlace, index: Index, day: Day, advance: Callable[[int], None]
) -> Iterator[Part]:
    bucket = place.bucket
    there = parts(bucket, day)
    missing = _missing(bucket, index, day, there)
    number = len(there)
    # One object is never in two parts, so a part ends between objects.
    while missing:
        with tempfile.TemporaryFile() as file:
            with _Writer(day, file, f"{day.prefix}part-{number:05d}.parquet") as part:
                missing = part.fill(bucket, missing, advance)
            yield _store(place, part, file)
        number += 1


@dataclass(frozen=True, slots=True)
class _Object:
    place: Place
    key: str
    start: int
    next: int


def _missing(bucket: Bucket, index: Index, day: Day, there: Iterable[Part]) -> list[_Object]:
    """The day's objects that no part covers, by partition, in the order of the chain."""
    found = []
    for _, place in index.chains():
        covered = [one for part in there for one in part.covers.get(place.partition, [])]
        for key in index.keys(place, day.generation):
            if ObjectKey.read(key).day != day.day:
                continue
            try:
                link = link_of(bucket.head(key))
            except (Damaged, KeyError) as error:
                raise Broken(f"{key}: {error}") from None
            if not any(start <= link.start and link.next <= end for start, end in covered):
                found.append(_Object(place, key, link.start, link.next))
    return found


def _require_closed(place: ArchivePlace, index: Index, day: Day, now: datetime) -> list[Place]:
    """Every chain has gone on beyond the day, or had the time to; those that have not.

    Raises DayIsOpen.
    """
    waited = (now - day_ends(day.day)).total_seconds()
    if waited < 0:
        raise DayIsOpen(f"{day.day} is not over yet (UTC); nothing was made of it")
    if _is_over(place.bucket, day):
        return []
    behind = [
        chain
        for _, chain in index.chains()
        # A chain may also be days behind: what it has not archived yet may be of this day.
        if max(ObjectKey.read(key).day for key in index.keys(chain, day.generation)) <= day.day
    ]
    if behind and waited < place.rotate_seconds + CLOSED_AFTER_SECONDS:
        raise DayIsOpen(
            f"{behind[0]} may still get records of {day.day}: its archive has not gone on to the "
            f"next day, which began {waited:.0f} s ago; call again an hour after midnight, UTC"
        )
    return behind


def _is_over(bucket: Bucket, day: Day) -> bool:
    """The topic was made again and its next life has begun: the chains of this one have ended."""
    later = (life for life in generations(bucket) if life > day.generation)
    return any(next(bucket.list(topic_prefix(day.topic, life)), None) for life in later)


class _Writer:
    """One part on its way into a file."""

    def __init__(self, day: Day, file: Any, key: str) -> None:
        self.key = key
        self.rows = 0
        self.covers: Covered = {}
        self.topic_ids: set[str] = set()
        self._columns = Columns(day.topic)
        self._writer = pq.ParquetWriter(
            file, self._columns.schema, compression="zstd", write_statistics=True
        )
        self._held_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Also where it was not filled: it writes its end into the file, which must still be open.
        self._writer.close()

    def fill(
        self, bucket: Bucket, objects: list[_Object], advance: Callable[[int], None]
    ) -> list[_Object]:
        """Write objects until the part is full; what is left over."""
        for number, one in enumerate(objects):
            if number and self._full():
                break
            self._object(bucket, one)
            advance(1)
        else:
            number = len(objects)
        self._flush()
        return objects[number:]

    def metadata(self) -> Mapping[str, str]:
        """What the object says of itself."""
        return {
            "rows": str(self.rows),
            "covers": write_covers(self.covers),
            "topic-id": ",".join(sorted(self.topic_ids)),
        }

    def _full(self) -> bool:
        longer = len(write_covers(self.covers)) + RANGE_LENGTH_MAX
        return self.rows + len(self._columns) >= PART_ROWS or longer > COVERED_LENGTH_MAX

    def _object(self, bucket: Bucket, one: _Object) -> None:
        walk = Walk(bucket, one.place)
        for some in walk.object(one.key):
            for line in some.lines:
                try:
                    record = read_line(line, one.place)
                except Damaged as error:
                    raise Broken(f"{one.key}: {error}") from None
                self._columns.add(one.place, record)
                self._held_bytes += len(line)
            if len(self._columns) >= GROUP_ROWS or self._held_bytes >= GROUP_BYTES:
                self._flush()
        self.topic_ids.add(walk.topic_id or "")
        ranges = self.covers.setdefault(one.place.partition, [])
        if ranges and ranges[-1][1] == one.start:
            ranges[-1] = (ranges[-1][0], one.next)
        else:
            ranges.append((one.start, one.next))

    def _flush(self) -> None:
        if self._columns:
            self.rows += len(self._columns)
            self._writer.write_table(self._columns.take())
            self._held_bytes = 0


def _store(place: ArchivePlace, part: _Writer, file: Any) -> Part:
    """Create the object; all of it or nothing."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    try:
        place.client.put_object(
            Bucket=place.bucket.name,
            Key=part.key,
            Body=file,
            Metadata={**part.metadata(), "sha256": digest},
            ContentType="application/vnd.apache.parquet",
            IfNoneMatch="*",
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in _TAKEN:
            raise _Taken from None
        raise place.bucket.away(error) from error
    except BotoCoreError as error:
        raise place.bucket.away(error) from error
    return Part(part.key, part.rows, part.covers)
