"""`archive ls`: what there is, a row a topic, day and partition, or a row an object."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from shopstream_shared.archive.keys import Damaged, Link, ObjectKey, day_prefix, topic_prefix
from shopstream_shared.archive.reader import Bucket, Stored, generations, link_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects; None and an empty day mean all."""

    topics: Sequence[str]
    day: str = ""
    partition: int | None = None
    generation: int | None = None


@dataclass(slots=True, kw_only=True)
class Day:
    """The objects of one partition and UTC day, ``first`` being the lowest offset of all."""

    generation: int
    topic: str
    day: str
    partition: int
    objects: int = 0
    bytes: int = 0
    first: int = 0


@dataclass(frozen=True, slots=True)
class Object:
    """One object; ``link`` is None where its metadata is no chain's."""

    key: str
    bytes: int
    link: Link | None

    def as_json(self) -> dict[str, object]:
        said = {} if self.link is None else asdict(self.link)
        return {"key": self.key, "bytes": self.bytes, **said}


def select(bucket: Bucket, wanted: Selection) -> Iterator[tuple[ObjectKey, Stored]]:
    """The chain objects that are wanted, by topic and key."""
    lives = generations(bucket) if wanted.generation is None else [wanted.generation]
    for topic in wanted.topics:
        for life in lives:
            prefix = (
                day_prefix(topic, wanted.day, life) if wanted.day else topic_prefix(topic, life)
            )
            for stored in bucket.list(prefix):
                try:
                    key = ObjectKey.read(stored.key)
                except Damaged:
                    # Told by `archive verify`.
                    continue
                if wanted.partition in {None, key.partition}:
                    yield key, stored


def days(bucket: Bucket, wanted: Selection) -> list[Day]:
    """From listings alone, so it is quick in a large archive."""
    found: dict[tuple[int, str, str, int], Day] = {}
    for key, stored in select(bucket, wanted):
        where = key.generation, key.topic, key.day, key.partition
        row = found.get(where)
        if row is None:
            generation, topic, day, partition = where
            row = found[where] = Day(
                generation=generation, topic=topic, day=day, partition=partition, first=key.first
            )
        row.objects += 1
        row.bytes += stored.bytes
        row.first = min(row.first, key.first)
    return [found[where] for where in sorted(found)]


def objects(bucket: Bucket, wanted: Selection) -> Iterator[Object]:
    """With what each says of itself: one request an object."""
    for _, stored in select(bucket, wanted):
        try:
            link = link_of(bucket.head(stored.key))
        except (Damaged, KeyError):
            link = None
        yield Object(stored.key, stored.bytes, link)
