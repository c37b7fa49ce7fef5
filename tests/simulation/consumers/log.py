"""Kafka's log as consumers see it: transactions, holes, retention, and topics made again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.simulation.broker import Broker, Partition
from tests.simulation.world import World
from tests.support.analytics_events import LogRecord

from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.sink import LogRange, Topics, TopicState
from shopstream_shared.topics import DEAD_LETTER

#: Stands where compaction or another producer's control record took an offset.
HOLE: Final = object()


class Entry(NamedTuple):
    """What a producer sends."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp: int


class Fetched(NamedTuple):
    """Records and the positions around them; ``start`` is not what was asked for after a reset."""

    start: int
    next: int
    records: list[LogRecord]


@dataclass(slots=True)
class Life:
    """One life of a topic."""

    id: str
    epoch: int
    partitions: dict[int, Partition]


@dataclass(slots=True)
class SimLog:
    """All topics of the service, and the dead letters."""

    world: World
    partitions: Mapping[str, int]
    marker_seconds: float
    broker: Broker = field(init=False)
    lives: dict[str, list[Life]] = field(default_factory=dict)
    #: The log's first offset, where it is not 0.
    firsts: dict[Source, int] = field(default_factory=dict)
    #: Topics that were made again; the relay publishes nothing to them until they are adopted.
    unadopted: set[str] = field(default_factory=set)
    made_again_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        places = [
            (topic, part) for topic, count in self.partitions.items() for part in range(count)
        ]
        self.broker = Broker(
            [*places, (DEAD_LETTER, 0)],
            self.world.at,
            lambda: self.world.some(self.marker_seconds),
        )
        for topic in self.partitions:
            self._begin(topic)

    @property
    def sources(self) -> list[Source]:
        return [Source(topic, part) for topic, n in self.partitions.items() for part in range(n)]

    def topics(self) -> Topics:
        return {
            topic: TopicState(lives[-1].id, self.partitions[topic])
            for topic, lives in self.lives.items()
        }

    def range(self, source: Source) -> LogRange:
        return LogRange(self.firsts.get(source, 0), self.broker.partitions[source].stable)

    def fetch(self, source: Source, position: int, records_max: int) -> Fetched:
        """From a position on; from the log's first record where it has none of that position."""
        partition = self.broker.partitions[source]
        held = self.range(source)
        if not held.first <= position <= partition.end:
            position = held.first
        start, records = position, list[LogRecord]()
        while position < held.end and len(records) < records_max:
            record = read(source, position, partition)
            position += 1
            if record is not None:
                records.append(record)
        return Fetched(start, position, records)

    def retire(self, source: Source, first: int) -> None:
        """Records below ``first`` are gone."""
        self.firsts[source] = max(self.firsts.get(source, 0), first)

    def make_again(self, topic: str) -> None:
        """Delete the topic and create it: another id, and offsets from 0."""
        for part in range(self.partitions[topic]):
            self.broker.partitions[topic, part] = Partition()
            self.firsts.pop(Source(topic, part), None)
        self.unadopted.add(topic)
        self.made_again_at[topic] = self.world.now
        self._begin(topic)

    def letters(self) -> list[Any]:
        """All committed dead letters: (key, value, headers)."""
        return [value for _, value in self.broker.partitions[DEAD_LETTER, 0].committed()]

    def _begin(self, topic: str) -> None:
        lives = self.lives.setdefault(topic, [])
        parts = {n: self.broker.partitions[topic, n] for n in range(self.partitions[topic])}
        lives.append(Life(f"{topic}-id-{len(lives)}", len(lives), parts))


def read(source: Source, offset: int, partition: Partition) -> LogRecord | None:
    """The record at a stable offset, if a reader of committed records sees one there."""
    record = partition.records[offset]
    if record.value is None or record.value is HOLE:
        return None
    if record.transaction.state not in ("committing", "committed"):
        return None
    entry: Entry = record.value
    return LogRecord(
        source.topic,
        source.partition,
        offset,
        entry.timestamp,
        entry.key,
        entry.value,
        entry.headers,
    )


def read_all(source: Source, partition: Partition) -> Iterator[LogRecord]:
    """Everything that was ever committed there."""
    for offset in range(partition.stable):
        record = read(source, offset, partition)
        if record is not None:
            yield record
