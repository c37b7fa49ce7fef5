"""The chain of archive objects of a partition.

Protocol rules 22-24: an object's metadata says from which position to which it goes (``start``,
``next``), its first and last offset, how many records, the sha256 of the stored bytes and the
topic's id. ``start`` is the previous object's ``next``, so anyone can walk the chain without Kafka.
The key is a pure function of the first record, and a PUT creates or fails: of several writers at
one position one wins, and the others continue behind it. Nothing deletes or replaces an object.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from shopstream_analytics.consumer.batch import Source
from shopstream_shared import generations
from shopstream_shared.archive import keys
from shopstream_shared.archive.keys import Link, hour_of
from shopstream_shared.generations import TopicEpoch

__all__ = ["HINT_PREFIX", "ChainStore", "Hint", "Link", "hint_key", "hour_of", "object_key"]

HINT_PREFIX: Final = keys.HINTS


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

    async def last(self, source: Source, epoch: int = 0) -> Link | None:
        """The chain's last object, None without any; lists all objects of the topic.

        Raises SinkUnavailable, StoreLost.
        """
        ...

    async def read_hint(self, source: Source, epoch: int = 0) -> Hint | None:
        """Raises SinkUnavailable."""
        ...

    async def write_hint(self, source: Source, hint: Hint, epoch: int = 0) -> None:
        """Raises SinkUnavailable."""
        ...

    async def read_epochs(self, topic: str) -> Sequence[TopicEpoch]:
        """A topic's lives, oldest first; none while there is but one. Raises SinkUnavailable."""
        ...


def object_key(source: Source, first_offset: int, first_timestamp_ms: int, epoch: int = 0) -> str:
    """The directory is the UTC hour of the first record's Kafka timestamp."""
    return keys.object_key(keys.Place(*source), first_offset, first_timestamp_ms, epoch)


def hint_key(source: Source, epoch: int = 0) -> str:
    """One small object a partition."""
    return generations.hint_key(*source, epoch)
