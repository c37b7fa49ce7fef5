"""The ports between the consumer and what it fills.

A sink's own checkpoint is the truth about progress; the group's committed offset only repeats it,
for operators. Every `write` may be repeated with the same batch: the sink makes that harmless.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

from shopstream_analytics.consumer.batch import Batch, Source

#: What a store's answer meant (ADR 0034); all but the last are worth the same call again.
FaultKind = Literal[
    "unreachable",
    "failing",
    "throttled",
    "conflict",
    "credentials",
    "missing",
    "unknown",
    "refused",
]
FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)


class SinkUnavailable(Exception):
    """The store cannot be written now. The same call is repeated after a pause, without bound:
    an outage stops a sink, never ends it."""

    def __init__(self, detail: str, kind: FaultKind = "unreachable") -> None:
        super().__init__(detail)
        self.kind = kind


class PartitionLost(Exception):
    """Another worker has the partition. This one ends at once: a new try fences its heir."""


class SinkMoved(Exception):
    """The sink's data lives elsewhere now. The worker ends, and its successor opens there."""


class Halted(Exception):
    """Going on would make wrong data. The worker stops, unhealthy, until an operator acts."""

    reason = "halted"


class TopicRecreated(Halted):
    """A topic has another Kafka id than the data in the sink (protocol rule 13)."""

    reason = "topic_recreated"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}; call `shopstream topics adopt` (docs/topics.md)")


class OffsetOutOfRange(Halted):
    """The log no longer holds what the sink needs next (protocol rule 19)."""

    reason = "offset_out_of_range"


class StoreRefused(Halted):
    """The store will never accept our request: a fault of ours, which no repetition mends."""

    reason = "store_refused"


class StoreLost(Halted):
    """What a checkpoint says is stored is gone: the table or bucket was deleted or made again."""

    reason = "store_lost"


@dataclass(frozen=True, slots=True)
class LogRange:
    """What the log holds of a partition: the first offset and the end (exclusive)."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the broker describes it; ``id`` is its epoch (protocol rule 13)."""

    id: str
    partitions: int


Topics = Mapping[str, TopicState]


class PartitionSink(Protocol):
    """The sink's side of one partition, while this process owns it."""

    @property
    def durable(self) -> int:
        """Everything before this position is stored for good."""
        ...

    async def write(self, batch: Batch) -> None:
        """Take the batch in. Raises SinkUnavailable; then the same batch comes again."""
        ...

    def due_in(self) -> float | None:
        """Seconds until `flush` is wanted even without new records; None: never."""
        ...

    async def flush(self) -> None:
        """Store what is held back. Raises SinkUnavailable; then it is called again."""
        ...


class Sink(Protocol):
    """One store, fed by one Faust app."""

    async def prepare(self, topics: Topics) -> None:
        """Make or check tables and buckets, and check the topics' epochs.

        Raises SinkUnavailable, TopicRecreated or SinkMoved. May be called again at any time.
        """
        ...

    async def open(self, source: Source, log: LogRange) -> PartitionSink:
        """Start on a partition at the sink's checkpoint; without one, at the log's first record.

        Raises SinkUnavailable, TopicRecreated or OffsetOutOfRange.
        """
        ...

    async def ping(self) -> None:
        """Raises SinkUnavailable when the store does not answer."""
        ...


def check_range(source: Source, position: int, log: LogRange) -> None:
    """Refuse to skip what the log has lost. Raises OffsetOutOfRange."""
    if not log.first <= position <= log.end:
        raise OffsetOutOfRange(
            f"{source}: checkpoint {position} is outside of the log, {log.first} to {log.end}; "
            "see `The log has lost what comes next` in docs/analytics.md"
        )
