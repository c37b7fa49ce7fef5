"""RecentEvents: an item an event, gone after 30 days, found by seller, type or subject.

Putting an item under its event's id again changes nothing, so a repetition is harmless; the
checkpoint (protocol rule 19) moves when no item of the batch is left unprocessed.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.exceptions import ClientError

from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Batch, Record, Source
from shopstream_analytics.dynamo import as_unavailable, error_code
from shopstream_analytics.events import read_event
from shopstream_analytics.identity import check_table, ensure_tables, same_table
from shopstream_analytics.recent_index import RecentIndexes
from shopstream_analytics.sink import (
    LogRange,
    SinkUnavailable,
    StoreRefused,
    Topics,
    check_range,
)
from shopstream_analytics.tables import recent_table
from shopstream_shared.crash import CrashPoints
from shopstream_shared.events.codec import DecodedEvent, EventRejected
from shopstream_shared.logs import get_logger

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

T = TypeVar("T")

GROUP: Final = "analytics-recent"
TTL_SECONDS: Final = 30 * 24 * 3_600
#: DynamoDB's limit of items in one BatchWriteItem.
PUT_ITEMS_MAX: Final = 25
#: Calls in flight a partition.
PUTS_IN_FLIGHT_MAX: Final = 4
#: Tries of what DynamoDB handed back; then the lane waits and the batch comes again.
UNPROCESSED_TRIES_MAX: Final = 8
UNPROCESSED_FIRST_SECONDS: Final = 0.05
#: Refused items with none stored between them. More are no items' fault, but the table's or ours.
REFUSED_IN_A_ROW_MAX: Final = 1
_INVALID: Final = "ValidationException"

log = get_logger(__name__)


def item_of(event: DecodedEvent, indexes: RecentIndexes) -> dict[str, Any]:
    """The item of an event; ``data`` is the event as it is on the log, ``ttl`` in seconds."""
    envelope = event.envelope
    return {
        "eventId": {"S": envelope.id},
        "eventType": {"S": envelope.type},
        "timestamp": {"S": envelope.time},
        "sellerId": {"S": envelope.sellerid},
        "subject": {"S": envelope.subject},
        "data": {"S": event.value.decode()},
        "ttl": {"N": str(int(event.time.timestamp()) + TTL_SECONDS)},
        **indexes.attributes_of(envelope),
    }


def _nobody() -> None:
    """For who does not count."""


@dataclass(slots=True)
class PartitionRecent:
    """One partition's events."""

    client: "DynamoDBClient"
    table: str
    indexes: RecentIndexes
    source: Source
    topic_id: str
    durable: int
    checkpoints: Checkpoints
    crash: CrashPoints
    on_refused: Callable[[], None]
    _refused_in_a_row: int = field(default=0, init=False)
    #: Whether a checkpoint was found or written here.
    placed: bool = False

    async def write(self, batch: Batch) -> None:
        """Raises SinkUnavailable; then nothing but a repetition is needed. Raises StoreRefused."""
        items = _items(batch.records, self.indexes)
        calls = [items[at : at + PUT_ITEMS_MAX] for at in range(0, len(items), PUT_ITEMS_MAX)]
        refused: dict[str, str] = {}

        async def put(call: list[dict[str, Any]]) -> None:
            refused.update(await self._put(call))

        await _each(put, calls, PUTS_IN_FLIGHT_MAX)
        self._leave_out(refused, stored=len(items) - len(refused))
        self.crash.reach("recent.after_write")
        self.crash.reach("recent.before_checkpoint")
        await self.checkpoints.move(
            self.source, self.topic_id, start=self.durable, to=batch.next, fresh=not self.placed
        )
        self.crash.reach("recent.after_checkpoint")
        self.durable, self.placed = batch.next, True

    def due_in(self) -> float | None:
        return None

    async def flush(self) -> None:
        """Nothing is held back."""

    async def _put(self, items: list[dict[str, Any]]) -> dict[str, str]:
        """Why DynamoDB never takes an item, by the event's id; empty when all are stored."""
        waiting: Any = {self.table: [{"PutRequest": {"Item": item}} for item in items]}
        delay = UNPROCESSED_FIRST_SECONDS
        for _ in range(UNPROCESSED_TRIES_MAX):
            with as_unavailable("dynamodb"):
                try:
                    answer = await self.client.batch_write_item(RequestItems=waiting)
                except ClientError as error:
                    if error_code(error) != _INVALID:
                        raise
                    return await self._put_alone(items, error)
            waiting = answer.get("UnprocessedItems")
            if not waiting:
                return {}
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - jitter, not a secret
            delay *= 2
        raise SinkUnavailable("dynamodb: throttled: UnprocessedItems", "throttled")

    async def _put_alone(self, items: list[dict[str, Any]], error: ClientError) -> dict[str, str]:
        """Find the item that DynamoDB never takes; the others of its call are stored."""
        if len(items) == 1:
            return {items[0]["eventId"]["S"]: str(error)}
        refused: dict[str, str] = {}
        for item in items:
            refused.update(await self._put([item]))
        if len(refused) == len(items):
            raise StoreRefused(f"dynamodb: every item is refused: {error}")
        return refused

    def _leave_out(self, refused: Mapping[str, str], stored: int) -> None:
        """Go on without the items that DynamoDB never takes (protocol rule 21).

        `read_event` refuses what can be known to be one, and a letter was sent for it. So this is a
        fault of ours: one item is missing then, not all that follow; metric, health and verify say
        so. No letter: that would say of the event that no aggregate counts it.
        Raises StoreRefused when it looks like all that follow.
        """
        in_a_row = len(refused) + (0 if stored else self._refused_in_a_row)
        if not stored and in_a_row > REFUSED_IN_A_ROW_MAX:
            raise StoreRefused(f"dynamodb: every item is refused: {next(iter(refused.values()))}")
        self._refused_in_a_row = 0 if stored else in_a_row
        for event_id, detail in refused.items():
            log.error("item refused", event_id=event_id, source=str(self.source), detail=detail)
            self.on_refused()


@dataclass(slots=True)
class RecentSink:
    """All partitions' events in one table."""

    client: "DynamoDBClient"
    table: str
    indexes: RecentIndexes
    checkpoints: Checkpoints
    crash: CrashPoints
    topics: Topics
    #: Told of each event that is left out for good.
    on_refused: Callable[[], None] = _nobody
    _table_id: str | None = None

    async def prepare(self, topics: Topics) -> None:
        """See Sink.prepare."""
        self.topics = topics
        table = recent_table(self.table, self.indexes)
        found = await ensure_tables(self.client, table, self.checkpoints)
        self._table_id = same_table(self._table_id, found, self.table)
        await self.checkpoints.check_epochs(topics)

    async def open(self, source: Source, log: LogRange) -> PartitionRecent:
        """See Sink.open."""
        topic_id = self.topics[source.topic].id
        stored = await self.checkpoints.read(source, topic_id)
        position = log.first if stored is None else stored
        check_range(source, position, log)
        return PartitionRecent(
            client=self.client,
            table=self.table,
            indexes=self.indexes,
            source=source,
            topic_id=topic_id,
            durable=position,
            checkpoints=self.checkpoints,
            crash=self.crash,
            on_refused=self.on_refused,
            placed=stored is not None,
        )

    async def ping(self) -> None:
        """See Sink.ping."""
        await check_table(self.client, self.table)


async def _each(work: Callable[[T], Awaitable[None]], things: Iterable[T], at_once: int) -> None:
    """Work on each of the things, so many at a time; the first error ends all that is begun."""
    waiting = iter(things)

    async def worker() -> None:
        for thing in waiting:
            await work(thing)

    workers = [asyncio.create_task(worker()) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _items(records: Sequence[Record], indexes: RecentIndexes) -> list[dict[str, Any]]:
    """Items of the readable records; a call may name an id only once, the last one stands."""
    by_id: dict[str, dict[str, Any]] = {}
    for record in records:
        try:
            event = read_event(record.value)
        except EventRejected:
            # The aggregates worker sends the letter.
            continue
        by_id[event.envelope.id] = item_of(event, indexes)
    return list(by_id.values())
