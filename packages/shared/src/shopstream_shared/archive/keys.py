"""Names of the archive's objects, and what the metadata of one says (protocol rules 22-24)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Self

#: Everything of a chain lies below it.
EVENTS: Final = "events/"
#: One small object a partition: where a writer begins to look for the chain's end.
HINTS: Final = "_positions"
#: What is derived from the chains and can be made again.
PARQUET: Final = "parquet/"
MANIFESTS: Final = "_manifests/"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_MS: Final = 3_600_000
_KEY: Final = re.compile(
    r"events/(?:epoch=(?P<generation>[1-9][0-9]*)/)?topic=(?P<topic>[A-Za-z0-9._-]+)/"
    r"year=(?P<year>[0-9]{4})/month=(?P<month>[0-9]{2})/day=(?P<day>[0-9]{2})/"
    r"hour=(?P<hour>[0-9]{2})/(?P=topic)\+(?P<partition>0|[1-9][0-9]*)\+(?P<first>[0-9]{20})"
    r"\.jsonl\.zst"
)


def ending_rule(name: str | None, prefix: str) -> str | None:
    """What is to be said of a lifecycle rule that ends what begins with ``prefix`` (rule 23).

    None when it reaches no object of a chain.
    """
    if not (EVENTS.startswith(prefix) or prefix.startswith(EVENTS)):
        return None
    called = name or "without a name"
    return f"lifecycle rule {called} ends objects below {EVENTS}: take it out, or disable it"


class Damaged(Exception):
    """An object or a line of the archive that cannot be read; the message says why."""


class Place(NamedTuple):
    """A partition."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class ObjectKey(NamedTuple):
    """What a key says; sorted, the objects of a chain stand in its order.

    ``hour`` counts from 1970: the UTC hour of the first line's Kafka timestamp.
    """

    generation: int
    topic: str
    partition: int
    first: int
    hour: int

    @classmethod
    def read(cls, key: str) -> Self:
        """Take a key apart. Raises Damaged when it is none of a chain's."""
        found = _KEY.fullmatch(key)
        if found is None:
            raise Damaged(f"not the key of an archive object: {key}")
        part = found.groupdict()
        try:
            hour = datetime(
                *(int(part[name]) for name in ("year", "month", "day", "hour")),  # type: ignore[arg-type,misc]  # four numbers
                tzinfo=UTC,
            )
        except ValueError as error:
            raise Damaged(f"not the key of an archive object: {key}: {error}") from error
        return cls(
            int(part["generation"] or 0),
            part["topic"],
            int(part["partition"]),
            int(part["first"]),
            (hour - _EPOCH) // timedelta(hours=1),
        )

    @property
    def place(self) -> Place:
        return Place(self.topic, self.partition)

    @property
    def day(self) -> str:
        """The UTC day, ``YYYY-MM-DD``."""
        return f"{_EPOCH + timedelta(hours=self.hour):%Y-%m-%d}"

    def __str__(self) -> str:
        hour = _EPOCH + timedelta(hours=self.hour)
        return (
            f"{topic_prefix(self.topic, self.generation)}{hour:year=%Y/month=%m/day=%d/hour=%H}/"
            f"{self.topic}+{self.partition}+{self.first:020d}.jsonl.zst"
        )


@dataclass(frozen=True, slots=True)
class Link:
    """What an object's metadata says. Positions and offsets are Kafka's; ``next`` is exclusive."""

    start: int
    next: int
    first: int
    last: int
    count: int
    sha256: str
    topic_id: str

    def metadata(self) -> dict[str, str]:
        """As object metadata, whose values are text."""
        return {
            "start": str(self.start),
            "next": str(self.next),
            "first": str(self.first),
            "last": str(self.last),
            "count": str(self.count),
            "sha256": self.sha256,
            "topic-id": self.topic_id,
        }

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Self:
        """Raises KeyError or ValueError when this is no object of a chain."""
        return cls(
            start=int(metadata["start"]),
            next=int(metadata["next"]),
            first=int(metadata["first"]),
            last=int(metadata["last"]),
            count=int(metadata["count"]),
            sha256=metadata["sha256"],
            topic_id=metadata["topic-id"],
        )


def topic_prefix(topic: str, generation: int = 0) -> str:
    """Where the objects of a topic lie; generations count the lives of a topic (rule 13)."""
    life = f"epoch={generation}/" if generation else ""
    return f"{EVENTS}{life}topic={topic}/"


def day_prefix(topic: str, day: str, generation: int = 0) -> str:
    """Where the objects of a UTC day (``YYYY-MM-DD``) lie."""
    year, month, date = day.split("-")
    return f"{topic_prefix(topic, generation)}year={year}/month={month}/day={date}/"


def below(head: str, prefix: str) -> str:
    """Where what is made of the objects at this prefix lies, below a head of its own."""
    return f"{head}{prefix.removeprefix(EVENTS)}"


def object_key(place: Place, first: int, timestamp_ms: int, generation: int = 0) -> str:
    """The key of the object that begins with this record."""
    return str(ObjectKey(generation, *place, first, hour_of(timestamp_ms)))


def hour_of(timestamp_ms: int) -> int:
    """Hours since 1970 of a Kafka timestamp."""
    return timestamp_ms // _HOUR_MS
