"""The aggregates as a sink: letters, items, checkpoint, in this order.

A crash between any two steps repeats the batch from the checkpoint, perhaps with other borders:
letters already sent are found on the dead-letter topic, items already merged refuse by ``upto``.
A letter stands as long as it is there (docs/adr/0039): its record is passed over, also by a version
that can read it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, overload

from shopstream_analytics.aggregates.fold import Counts, ItemKey
from shopstream_analytics.aggregates.generations import GROUP, Generation, Generations
from shopstream_analytics.aggregates.merge import AggregateStore, Invalid, Round, merge
from shopstream_analytics.aggregates.store import DynamoAggregates
from shopstream_analytics.aggregates.timeliness import Marking, PartitionTime
from shopstream_analytics.checkpoints import Checkpoint, Checkpoints
from shopstream_analytics.consumer.batch import Batch, Record, Source
from shopstream_analytics.events import DecodedEvent, EventRejected, read_event
from shopstream_analytics.identity import check_table, ensure_tables, same_table
from shopstream_analytics.sink import LogRange, SinkMoved, Topics, check_range
from shopstream_analytics.tables import aggregates_table
from shopstream_analytics.timing import monotonic
from shopstream_shared.crash import CrashPoints
from shopstream_shared.events.codec import InvalidData
from shopstream_shared.generations import source_name
from shopstream_shared.logs import get_logger

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

__all__ = ["GROUP", "AggregatesSink", "Letter", "Letters", "PartitionAggregates", "judge"]

#: A checkpoint that moved so lately stands where it was put: a table takes longer to be deleted and
#: made again, and a round under way would have met its absence.
UNSEEN_SECONDS_MAX: Final = 1.0
#: So many offsets with letters are spelled out in a line of the log.
OFFSETS_SHOWN_MAX: Final = 20

log = get_logger(__name__)


def _nobody(_records: int) -> None:
    """For who does not count them."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that is no event of ours, and why."""

    record: Record
    reason: str
    detail: str


class Letters(Protocol):
    """The port to the dead letters of one source partition."""

    async def standing(self, since: int) -> frozenset[int]:
        """The offsets from the checkpoint ``since`` on that have a letter.

        Whoever held the partition before can send none after this. Raises SinkUnavailable.
        """
        ...

    async def send(self, letters: Sequence[Letter], *, since: int) -> None:
        """Put each on the dead-letter topic unless it is there; ``since`` is the checkpoint.

        Raises SinkUnavailable.
        """
        ...


class Recount(Protocol):
    """The port to partition time as the log tells it, for a checkpoint that does not say it."""

    async def __call__(
        self, source: Source, first: int, position: int, letters: Letters
    ) -> PartitionTime:
        """As of a position, of a log that begins at ``first``; ``letters`` are the partition's.

        Raises SinkUnavailable.
        """
        ...


class _Judged(Sequence[tuple[int, DecodedEvent]]):
    """Records that are events, decoded each time they are asked for.

    A round of 16 MiB is as much again once decoded, and nearly always it is looked at once.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, at: int) -> tuple[int, DecodedEvent]: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[tuple[int, DecodedEvent]]: ...
    def __getitem__(
        self, at: int | slice
    ) -> tuple[int, DecodedEvent] | Sequence[tuple[int, DecodedEvent]]:
        if isinstance(at, slice):
            return _Judged(self._records[at])
        record = self._records[at]
        return record.offset, read_event(record.value)


def judge(
    records: Sequence[Record], start: PartitionTime
) -> tuple[Round, list[Letter], PartitionTime]:
    """Tell events from letters, in offset order, and count the events; partition time after them.

    ``start`` is partition time before them.
    """
    counts, marking = Counts(), Marking(start)
    judged: list[Record] = []
    letters: list[Letter] = []
    for record in records:
        try:
            event = read_event(record.value)
        except EventRejected as error:
            letters.append(Letter(record, error.reason, str(error)))
            continue
        offset = record.offset
        counts.take(offset, event, late=marking.see(offset, event.time))
        judged.append(record)
    marks = marking.marks
    return Round(_Judged(judged), marks, counts.folded(marks)), letters, marking.time


@dataclass(slots=True)
class PartitionAggregates:
    """One partition's share of the aggregates; ``items`` is what the items call the source."""

    source: Source
    items: Source
    topic_id: str
    durable: int
    store: AggregateStore
    checkpoints: Checkpoints
    letters: Letters
    crash: CrashPoints
    #: Told how many records of a batch were passed over, once it is stored.
    on_passed_over: Callable[[int], None] = _nobody
    #: Partition time at ``durable``.
    time: PartitionTime = field(default_factory=PartitionTime)
    #: Whether a checkpoint was found or written here.
    placed: bool = False
    _placed_at: float = float("-inf")
    #: Offsets with a letter of before; None until they have been asked for.
    _standing: frozenset[int] | None = None

    async def write(self, batch: Batch) -> None:
        """Raises SinkUnavailable; then nothing but a repetition is needed. Raises CheckpointGap."""
        await self._look()
        records = await self._without_letters(batch.records)
        round_, letters, time = judge(records, self.time)
        if letters:
            await self.letters.send(letters, since=self.durable)
            self.crash.reach("aggregates.after_letters")
        invalid = await merge(self.store, self.items, round_)
        if invalid:
            refused = await self._set_apart(batch, invalid)
            # They have a letter now, and with it no part in partition time.
            left = [record for record in records if record.offset not in refused]
            time = judge(left, self.time)[2]
        self.crash.reach("aggregates.after_write")
        self.crash.reach("aggregates.before_checkpoint")
        await self.checkpoints.move(
            self.source,
            self.topic_id,
            start=self.durable,
            to=batch.next,
            fresh=not self.placed,
            time=time.as_text(batch.next),
        )
        self.crash.reach("aggregates.after_checkpoint")
        self.durable, self.time, self.placed = batch.next, time, True
        self._placed_at = monotonic()
        if len(records) < len(batch.records):
            self.on_passed_over(len(batch.records) - len(records))

    async def _without_letters(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records that are still to be judged."""
        if self._standing is None:
            self._standing = await self.letters.standing(self.durable)
            if self._standing:
                log.warning(
                    "records have letters and are passed over",
                    source=str(self.source),
                    records=len(self._standing),
                    offsets=sorted(self._standing)[:OFFSETS_SHOWN_MAX],
                )
        if not self._standing:
            return records
        return [record for record in records if record.offset not in self._standing]

    async def _look(self) -> None:
        """After a pause, see that the checkpoint is still there before anything is merged.

        Tables that were deleted may have been made again in it, by another worker. An item there
        with our ``upto`` would hide all before it from whoever fills them from the log's start.
        """
        if self.placed and monotonic() - self._placed_at > UNSEEN_SECONDS_MAX:
            await self.checkpoints.confirm(self.source, self.topic_id, self.durable)

    async def _set_apart(self, batch: Batch, invalid: Mapping[ItemKey, Invalid]) -> Collection[int]:
        """Events of items that DynamoDB never takes become letters (protocol rule 21); their
        offsets.

        An event's other items have counted it: verify names the difference, a rebuild ends it.
        """
        details: dict[int, str] = {}
        for key, one in invalid.items():
            log.error("item refused", key=key, source=str(self.source), detail=one.detail)
            for offset in one.offsets:
                details.setdefault(offset, f"aggregate {' '.join(key)}: {one.detail}")
        letters = [
            Letter(record, InvalidData.reason, details[record.offset])
            for record in batch.records
            if record.offset in details
        ]
        await self.letters.send(letters, since=self.durable)
        return details.keys()

    def due_in(self) -> float | None:
        return None

    async def flush(self) -> None:
        """Nothing is held back."""


@dataclass(slots=True)
class AggregatesSink:
    """All partitions' aggregates in the table of the generation in use."""

    client: "DynamoDBClient"
    generations: Generations
    letters_of: Callable[[Source, int], Letters]
    recount: Recount
    crash: CrashPoints
    topics: Topics
    on_passed_over: Callable[[int], None] = _nobody
    _generation: Generation | None = None
    _table_id: str | None = None

    async def prepare(self, topics: Topics) -> None:
        """See Sink.prepare. Raises SinkMoved, too: when the generation in use is another one."""
        self.topics = topics
        current = await self.generations.current()
        if self._generation is not None and self._generation.number != current.number:
            raise SinkMoved(f"the aggregates are in {current.table} now")
        self._generation = current
        table = aggregates_table(current.table)
        found = await ensure_tables(self.client, table, current.checkpoints)
        self._table_id = same_table(self._table_id, found, table.name)
        await current.checkpoints.check_epochs(topics)

    async def open(self, source: Source, log: LogRange) -> PartitionAggregates:
        """See Sink.open."""
        generation = self._prepared
        topic_id = self.topics[source.topic].id
        stored = await generation.checkpoints.stored(source, topic_id)
        position = log.first if stored is None else stored.next
        check_range(source, position, log)
        noted = await generation.checkpoints.noted(source.topic)
        epoch = 0 if noted is None else noted.epoch
        letters = self.letters_of(source, epoch)
        return PartitionAggregates(
            source=source,
            items=Source(source_name(source.topic, epoch), source.partition),
            topic_id=topic_id,
            durable=position,
            store=DynamoAggregates(self.client, generation.table),
            checkpoints=generation.checkpoints,
            letters=letters,
            crash=self.crash,
            on_passed_over=self.on_passed_over,
            time=await self._time(source, stored, log, letters),
            placed=stored is not None,
        )

    async def _time(
        self, source: Source, stored: Checkpoint | None, log: LogRange, letters: Letters
    ) -> PartitionTime:
        if stored is None:
            return PartitionTime()
        noted = PartitionTime.from_text(stored.time, stored.next)
        if noted is not None:
            return noted
        return await self.recount(source, log.first, stored.next, letters)

    async def ping(self) -> None:
        """See Sink.ping."""
        await check_table(self.client, self._prepared.table)

    @property
    def _prepared(self) -> Generation:
        assert self._generation is not None  # noqa: S101 - `prepare` comes first
        return self._generation
