"""How far a sink has come, kept beside what it stores.

Protocol rule 19: an item per (consumer, topic, epoch, partition) holds ``next`` and moves only
from the position at which the batch started, after the batch's writes. Protocol rule 13: another
item per (consumer, topic) holds the topic's Kafka id; a topic with another id is another log, and
its offsets must not be held against the old ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dynamo import as_unavailable, error_code
from shopstream_analytics.sink import SinkUnavailable, TopicRecreated, Topics, TopicState
from shopstream_shared.clock import Clock, SystemClock, format_time

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

#: DynamoDB's limit of keys in one BatchGetItem.
GET_KEYS_MAX: Final = 100
#: Tries of what DynamoDB did not get to; then the caller hears that it is throttled.
GET_TRIES_MAX: Final = 4

_REFUSED = "ConditionalCheckFailedException"


class CheckpointGap(Exception):
    """The stored position is below the start of what was written: somebody set it back."""


class Checkpoint(NamedTuple):
    """A stored position, and what its consumer noted of it: for aggregates, partition time."""

    next: int
    time: str | None = None


@dataclass(slots=True)
class Checkpoints:
    """The checkpoints of one consumer (a group's name)."""

    client: "DynamoDBClient"
    table: str
    consumer: str
    clock: Clock

    @classmethod
    def of(cls, client: "DynamoDBClient", table: str, consumer: str) -> "Checkpoints":
        return cls(client, table, consumer, SystemClock())

    async def check_epochs(self, topics: Topics) -> None:
        """Note each topic's id and partitions; refuse an id that is not the noted one.

        Raises TopicRecreated or SinkUnavailable.
        """
        for name, state in topics.items():
            noted = await self.noted(name)
            if noted is not None and noted.id != state.id:
                raise TopicRecreated(f"{name} has id {state.id}; the data here is of {noted.id}")
            if noted is None or noted.partitions < state.partitions:
                await self._note(name, state)

    async def noted(self, topic: str) -> TopicState | None:
        """What was noted of a topic. Raises SinkUnavailable."""
        item = await self._get(f"{self.consumer}#{topic}")
        if item is None:
            return None
        return TopicState(item["topicId"]["S"], int(item["partitions"]["N"]))

    async def read(self, source: Source, topic_id: str) -> int | None:
        """The stored position. Raises SinkUnavailable."""
        stored = await self.stored(source, topic_id)
        return None if stored is None else stored.next

    async def stored(self, source: Source, topic_id: str) -> Checkpoint | None:
        """The stored position and its note, of one moment. Raises SinkUnavailable."""
        item = await self._get(self._key(source, topic_id))
        if item is None:
            return None
        return Checkpoint(int(item["next"]["N"]), item.get("partitionTime", {}).get("S"))

    async def read_many(self, places: Sequence[tuple[Source, str]]) -> tuple[int | None, ...]:
        """Stored positions by (partition, topic id), in their order; None where there is none.

        Raises SinkUnavailable.
        """
        keys = [self._key(source, topic_id) for source, topic_id in places]
        items = await self._get_many(keys)
        return tuple(int(items[key]["next"]["N"]) if key in items else None for key in keys)

    async def move(
        self, source: Source, topic_id: str, *, start: int, to: int, time: str | None = None
    ) -> None:
        """Move from `start` to `to`, or see that somebody has; ``time`` moves with it.

        Raises CheckpointGap or SinkUnavailable.
        """
        key = self._key(source, topic_id)
        while True:
            if await self._move_once(key, start, to, time):
                return
            stored = await self.read(source, topic_id)
            if stored is None or stored < start:
                raise CheckpointGap(f"{source}: stored {stored}, but written from {start}")
            if stored >= to:
                return
            # Another writer came part of the way. All of ours up to `to` is written, so going on
            # from where it stands is as true; positions only grow, so this ends.
            start = stored

    async def _move_once(self, key: str, start: int, to: int, time: str | None) -> bool:
        # Without an item the first writer starts wherever the log does.
        condition = "attribute_not_exists(pk) OR #next = :start"
        noted = "" if time is None else ", partitionTime = :time"
        with as_unavailable("dynamodb"):
            try:
                await self.client.update_item(
                    TableName=self.table,
                    Key={"pk": {"S": key}},
                    UpdateExpression="SET #next = :to, updatedAt = :now" + noted,
                    ConditionExpression=condition,
                    ExpressionAttributeNames={"#next": "next"},
                    ExpressionAttributeValues={
                        ":start": {"N": str(start)},
                        ":to": {"N": str(to)},
                        ":now": {"S": format_time(self.clock.now())},
                        **({} if time is None else {":time": {"S": time}}),
                    },
                )
            except ClientError as error:
                if error_code(error) != _REFUSED:
                    raise
                return False
        return True

    async def _note(self, topic: str, state: TopicState) -> None:
        with as_unavailable("dynamodb"):
            try:
                await self.client.put_item(
                    TableName=self.table,
                    Item={
                        "pk": {"S": f"{self.consumer}#{topic}"},
                        "topicId": {"S": state.id},
                        "partitions": {"N": str(state.partitions)},
                    },
                    ConditionExpression="attribute_not_exists(pk) OR topicId = :id",
                    ExpressionAttributeValues={":id": {"S": state.id}},
                )
            except ClientError as error:
                if error_code(error) != _REFUSED:
                    raise
                raise TopicRecreated(f"{topic}: another worker noted another id") from error

    async def _get(self, key: str) -> dict[str, Any] | None:
        with as_unavailable("dynamodb"):
            answer = await self.client.get_item(
                TableName=self.table, Key={"pk": {"S": key}}, ConsistentRead=True
            )
        item = answer.get("Item")
        return None if item is None else dict(item)

    async def _get_many(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Items by key, as they stand; no key twice."""
        found: dict[str, dict[str, Any]] = {}
        for at in range(0, len(keys), GET_KEYS_MAX):
            wanted: Any = [{"pk": {"S": key}} for key in keys[at : at + GET_KEYS_MAX]]
            for _ in range(GET_TRIES_MAX):
                with as_unavailable("dynamodb"):
                    answer = await self.client.batch_get_item(
                        RequestItems={self.table: {"Keys": wanted, "ConsistentRead": True}}
                    )
                found.update({i["pk"]["S"]: dict(i) for i in answer["Responses"][self.table]})
                left: Any = answer.get("UnprocessedKeys") or {}
                if not left:
                    break
                wanted = left[self.table]["Keys"]
            else:
                raise SinkUnavailable("dynamodb: throttled")
        return found

    def _key(self, source: Source, topic_id: str) -> str:
        return f"{self.consumer}#{source.topic}#{topic_id}#{source.partition}"
