"""How far a sink has come, kept beside what it stores.

Protocol rule 19: an item per (consumer, topic, epoch, partition) holds ``next`` and moves only
from the position at which the batch started, after the batch's writes. Protocol rule 13: another
item per (consumer, topic) holds the topic's Kafka id; a topic with another id is another log, and
its offsets must not be held against the old ones. That item also lists the topic's earlier epochs,
once `shopstream topics adopt` has opened a further one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dynamo import as_unavailable, error_code
from shopstream_analytics.sink import SinkUnavailable, TopicRecreated, Topics, TopicState
from shopstream_shared.clock import Clock, SystemClock, format_time
from shopstream_shared.generations import TopicEpoch, checkpoint_key

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

#: DynamoDB's limit of keys in one BatchGetItem.
GET_KEYS_MAX: Final = 100
#: Tries of what DynamoDB did not get to; then the caller hears that it is throttled.
GET_TRIES_MAX: Final = 4

_REFUSED = "ConditionalCheckFailedException"


class CheckpointGap(Exception):
    """The checkpoint is gone, or below what was written: somebody deleted it or set it back.

    The worker ends by it, and its successor begins where the checkpoints then stand.
    """


class Checkpoint(NamedTuple):
    """A stored position, and what its consumer noted of it: for aggregates, partition time."""

    next: int
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """What was noted of a topic: its id and partitions, its epoch, and the epochs before it."""

    id: str
    partitions: int
    epoch: int = 0
    earlier: tuple[TopicEpoch, ...] = ()

    @property
    def epochs(self) -> tuple[TopicEpoch, ...]:
        """All of them, oldest first."""
        return (*self.earlier, TopicEpoch(self.epoch, self.id, self.partitions))


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
                raise TopicRecreated(
                    f"{name} has id {state.id}; the data here is of {noted.id}: "
                    "`shopstream topics adopt` opens its next epoch"
                )
            if noted is None or noted.partitions < state.partitions:
                await self._note(name, state)

    async def noted(self, topic: str) -> Noted | None:
        """What was noted of a topic. Raises SinkUnavailable."""
        item = await self._get(f"{self.consumer}#{topic}")
        return None if item is None else noted_of(item)

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

    async def confirm(self, source: Source, topic_id: str, position: int) -> None:
        """See that the checkpoint stands at `position` or beyond.

        Raises CheckpointGap or SinkUnavailable.
        """
        stored = await self.read(source, topic_id)
        if stored is None or stored < position:
            raise _gap(source, stored, position)

    async def move(
        self,
        source: Source,
        topic_id: str,
        *,
        start: int,
        to: int,
        fresh: bool,
        time: str | None = None,
    ) -> None:
        """Move from `start` to `to`, or see that somebody has; ``time`` moves with it.

        ``fresh``: there was none when the partition was opened, so that the first is made. One
        that was there and is gone is never made again: what was deleted with it would be missing
        behind a checkpoint that says otherwise. Raises CheckpointGap or SinkUnavailable.
        """
        key = self._key(source, topic_id)
        while True:
            if await self._move_once(key, start, to, time, fresh=fresh):
                return
            stored = await self.read(source, topic_id)
            if stored is None or stored < start:
                raise _gap(source, stored, start)
            if stored >= to:
                return
            # Another writer came part of the way. All of ours up to `to` is written, so going on
            # from where it stands is as true; positions only grow, so this ends.
            start = stored

    async def _move_once(
        self, key: str, start: int, to: int, time: str | None, *, fresh: bool
    ) -> bool:
        # Without an item the first writer starts wherever the log does.
        condition = ("attribute_not_exists(pk) OR " if fresh else "") + "#next = :start"
        noted = "" if time is None else ", partitionTime = :time"
        with as_unavailable("dynamodb"):
            try:
                await self.client.update_item(
                    TableName=self.table,
                    Key={"pk": {"S": key}},
                    # `begin` stays: from there on everything is in what the sink stores.
                    UpdateExpression="SET #next = :to, updatedAt = :now, "
                    "#begin = if_not_exists(#begin, :start)" + noted,
                    ConditionExpression=condition,
                    ExpressionAttributeNames={"#next": "next", "#begin": "begin"},
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
                # Not a put: the epochs in the item stay.
                await self.client.update_item(
                    TableName=self.table,
                    Key={"pk": {"S": f"{self.consumer}#{topic}"}},
                    UpdateExpression="SET topicId = :id, #partitions = :partitions",
                    ConditionExpression="attribute_not_exists(pk) OR topicId = :id",
                    ExpressionAttributeNames={"#partitions": "partitions"},
                    ExpressionAttributeValues={
                        ":id": {"S": state.id},
                        ":partitions": {"N": str(state.partitions)},
                    },
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
        return checkpoint_key(self.consumer, source.topic, topic_id, source.partition)


def _gap(source: Source, stored: int | None, position: int) -> CheckpointGap:
    found = "is gone" if stored is None else f"was set back to {stored}"
    return CheckpointGap(
        f"{source}: the checkpoint {found}, but this worker stands at {position}; it ends, and the "
        "next one begins where the checkpoint then stands, or at the log's first record"
    )


def noted_of(item: Mapping[str, Any]) -> Noted:
    """Read the item of a topic."""
    earlier = tuple(
        TopicEpoch(
            int(one["M"]["epoch"]["N"]), one["M"]["topicId"]["S"], int(one["M"]["partitions"]["N"])
        )
        for one in item.get("earlier", {"L": ()})["L"]
    )
    epoch = int(item.get("epoch", {"N": "0"})["N"])
    return Noted(item["topicId"]["S"], int(item["partitions"]["N"]), epoch, earlier)


def noted_item(consumer: str, topic: str, noted: Noted) -> dict[str, Any]:
    """The reverse of `noted_of`, under its key."""
    item: dict[str, Any] = {
        "pk": {"S": f"{consumer}#{topic}"},
        "topicId": {"S": noted.id},
        "partitions": {"N": str(noted.partitions)},
    }
    if noted.epoch:
        item["epoch"] = {"N": str(noted.epoch)}
        item["earlier"] = {"L": [{"M": _epoch_item(one)} for one in noted.earlier]}
    return item


def _epoch_item(one: TopicEpoch) -> dict[str, Any]:
    return {
        "epoch": {"N": str(one.epoch)},
        "topicId": {"S": one.topic_id},
        "partitions": {"N": str(one.partitions)},
    }
