"""What a sink is given: all records that one fetch brought for one partition.

A batch carries the consumer's position before it (`start`) and after it (`next`). Positions, not
offsets, chain exactly: transaction markers, aborted data and compaction take offsets that carry no
record, so `next` of one batch is `start` of the following one, and any break is a real gap
(protocol rule 15). A batch without records is a stretch of markers only; it still moves positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Record(Protocol):
    """One record as the Kafka client gives it; ``timestamp`` in ms since 1970."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Source(NamedTuple):
    """A partition that is consumed."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition in offset order, and the positions around them.

    ``generation`` counts the consumer's seeks: a batch read before a seek is void after it.
    """

    source: Source
    start: int
    next: int
    records: Sequence[Record]
    size_bytes: int = 0
    generation: int = 0


class Discontinuity(Exception):
    """Two batches that should chain do not: records were skipped or delivered again."""

    def __init__(self, source: Source, expected: int, start: int) -> None:
        super().__init__(f"{source}: position {start} where {expected} was expected")
        self.source = source
        self.expected = expected
        self.start = start


def join(batches: Sequence[Batch]) -> Batch:
    """One batch out of several that chain. Raises Discontinuity when they do not."""
    first = batches[0]
    if len(batches) == 1:
        return first
    records: list[Record] = []
    position = first.start
    for batch in batches:
        if batch.start != position:
            raise Discontinuity(batch.source, position, batch.start)
        records.extend(batch.records)
        position = batch.next
    return Batch(
        source=first.source,
        start=first.start,
        next=position,
        records=records,
        size_bytes=sum(batch.size_bytes for batch in batches),
        generation=first.generation,
    )
