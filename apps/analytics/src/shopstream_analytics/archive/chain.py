"""The chain of archive objects of a partition.

Protocol rules 22-24: an object's metadata says from which position to which it goes (``start``,
``next``), its first and last offset, how many records, the sha256 of the stored bytes and the
topic's id. ``start`` is the previous object's ``next``, so anyone can walk the chain without Kafka.
The key is a pure function of the first record, and a PUT creates or fails: of several writers at
one position one wins, and the others continue behind it. Nothing deletes or replaces an object.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from shopstream_analytics.consumer.batch import Source

HINT_PREFIX: Final = "_positions"


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
    def of(cls, metadata: Mapping[str, str]) -> "Link":
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


class Hint(msgspec.Struct, frozen=True, rename="camel"):
    """Where a partition's chain had come to: a place to start from, never ahead of the chain."""

    next: int
    topic_id: str
    key: str


class ChainStore(Protocol):
    """The port to the bucket."""

    async def create(self, key: str, body: bytes, link: Link) -> Link | None:
        """Store a new object; None when it is stored, else the link of the one that is there.

        Raises SinkUnavailable.
        """
        ...

    async def read_hint(self, source: Source) -> Hint | None:
        """Raises SinkUnavailable."""
        ...

    async def write_hint(self, source: Source, hint: Hint) -> None:
        """Raises SinkUnavailable."""
        ...


def object_key(source: Source, first_offset: int, first_timestamp_ms: int) -> str:
    """The directory is the UTC hour of the first record's Kafka timestamp."""
    hour = datetime.fromtimestamp(hour_of(first_timestamp_ms) * 3_600, UTC)
    return (
        f"events/topic={source.topic}/year={hour:%Y}/month={hour:%m}/day={hour:%d}/hour={hour:%H}"
        f"/{source.topic}+{source.partition}+{first_offset:020d}.jsonl.zst"
    )


def hint_key(source: Source) -> str:
    """One small object a partition."""
    return f"{HINT_PREFIX}/{source.topic}/{source.partition}"


def hour_of(timestamp_ms: int) -> int:
    """Hours since 1970 of a Kafka timestamp."""
    return timestamp_ms // 3_600_000
