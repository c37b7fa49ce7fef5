"""RecentEvents: an item an event, gone after 30 days, found by seller, type or subject.

Putting an item under its event's id again changes nothing, so a repetition is harmless; the
checkpoint (protocol rule 19) moves when no item of the batch is left unprocessed.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Batch, Record, Source
from shopstream_analytics.dynamo import as_unavailable
from shopstream_analytics.events import read_event
from shopstream_analytics.identity import check_table, ensure_tables
from shopstream_analytics.sink import LogRange, SinkUnavailable, Topics, check_range
from shopstream_analytics.tables import recent_table
from shopstream_shared.crash import CrashPoints
from shopstream_shared.events.codec import DecodedEvent, EventRejected

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

GROUP: Final = "analytics-recent"
TTL_SECONDS: Final = 30 * 24 * 3_600
#: DynamoDB's limit of items in one BatchWriteItem.
PUT_ITEMS_MAX: Final = 25
#: Calls in flight a partition.
PUTS_IN_FLIGHT_MAX: Final = 4
#: Tries of what DynamoDB handed back; then the lane waits and the batch comes again.
UNPROCESSED_TRIES_MAX: Final = 8
UNPROCESSED_FIRST_SECONDS: Final = 0.05


def item_of(event: DecodedEvent) -> dict[str, Any]:
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
    }


@dataclass(slots=True)
class PartitionRecent:
    """One partition's events."""

    client: "DynamoDBClient"
    table: str
    source: Source
    topic_id: str
    durable: int
    checkpoints: Checkpoints
    crash: CrashPoints

    async def write(self, batch: Batch) -> None:
        """Raises SinkUnavailable; then nothing but a repetition is needed."""
        items = _items(batch.records)
        calls = [items[at : at + PUT_ITEMS_MAX] for at in range(0, len(items), PUT_ITEMS_MAX)]
        for at in range(0, len(calls), PUTS_IN_FLIGHT_MAX):
            await asyncio.gather(*map(self._put, calls[at : at + PUTS_IN_FLIGHT_MAX]))
        self.crash.reach("recent.after_write")
        self.crash.reach("recent.before_checkpoint")
        await self.checkpoints.move(self.source, self.topic_id, start=self.durable, to=batch.next)
        self.crash.reach("recent.after_checkpoint")
        self.durable = batch.next

    def due_in(self) -> float | None:
        return None

    async def flush(self) -> None:
        """Nothing is held back."""

    async def _put(self, items: list[dict[str, Any]]) -> None:
        waiting: Any = {self.table: [{"PutRequest": {"Item": item}} for item in items]}
        delay = UNPROCESSED_FIRST_SECONDS
        for _ in range(UNPROCESSED_TRIES_MAX):
            with as_unavailable("dynamodb"):
                answer = await self.client.batch_write_item(RequestItems=waiting)
            waiting = answer.get("UnprocessedItems")
            if not waiting:
                return
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - jitter, not a secret
            delay *= 2
        raise SinkUnavailable("dynamodb: throttled: UnprocessedItems", "throttled")


@dataclass(slots=True)
class RecentSink:
    """All partitions' events in one table."""

    client: "DynamoDBClient"
    table: str
    checkpoints: Checkpoints
    crash: CrashPoints
    topics: Topics

    async def prepare(self, topics: Topics) -> None:
        """See Sink.prepare."""
        self.topics = topics
        await ensure_tables(self.client, recent_table(self.table), self.checkpoints)
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
            source=source,
            topic_id=topic_id,
            durable=position,
            checkpoints=self.checkpoints,
            crash=self.crash,
        )

    async def ping(self) -> None:
        """See Sink.ping."""
        await check_table(self.client, self.table)


def _items(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Items of the readable records; a call may name an id only once, the last one stands."""
    by_id = {item["eventId"]["S"]: item for item in chain.from_iterable(map(_item, records))}
    return list(by_id.values())


def _item(record: Record) -> Iterable[dict[str, Any]]:
    try:
        return (item_of(read_event(record.value)),)
    except EventRejected:
        # The aggregates worker sends the letter.
        return ()
