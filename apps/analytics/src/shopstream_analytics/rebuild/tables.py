"""DynamoDB as a rebuild uses it: blocking; what is live is read, what is new is written.

The order of the writes is the protocol (docs/adr/0031): number, table, items, checkpoints and
notes, the mark that all of it is there, and last, by one conditional write, the generation in use.
A drop takes the mark first, and each of swap and drop asks for what the other one changes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from shopstream_analytics.aggregates.generations import GROUP
from shopstream_analytics.aggregates.keys import parse
from shopstream_analytics.checkpoints import Noted, noted_item, noted_of
from shopstream_analytics.dynamo import error_code
from shopstream_analytics.identity import identity_of, note_key
from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.rebuild.store import (
    ABSENT,
    Item,
    answering,
    dynamo_client,
    make_table,
    put_items,
)
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.tables import aggregates_table, checkpoints_table
from shopstream_shared.clock import SystemClock, format_time
from shopstream_shared.generations import (
    POINTER,
    checkpoint_key,
    consumer_of,
    replayed_key,
    table_of,
)

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

_CANCELED: Final = "TransactionCanceledException"

#: The greatest number that a generation ever had: none comes twice, whatever was dropped, for a
#: late writer of the old one, and what it left, would be taken for the new one's.
_LAST: Final = f"{GROUP}+last"


class Position(NamedTuple):
    """A checkpoint: everything from ``begin`` to ``next`` (exclusive) is in the items."""

    begin: int
    next: int


@dataclass(frozen=True, slots=True)
class Tables:
    """All generations of the aggregates, and their checkpoints. Raises RebuildFailed."""

    client: "DynamoDBClient"
    base: str
    checkpoints: str

    @classmethod
    def of(cls, settings: AnalyticsSettings) -> "Tables":
        return cls(dynamo_client(settings), settings.aggregates_table, settings.checkpoints_table)

    def current(self) -> int:
        """The generation in use."""
        item = self._get(POINTER)
        return 0 if item is None else int(item["generation"]["N"])

    def numbers(self) -> list[int]:
        """The generations beside 0 that have a table."""
        prefix = table_of(self.base, 1)[:-1]
        found = []
        with answering():
            for page in self.client.get_paginator("list_tables").paginate():
                names = [name for name in page["TableNames"] if name.startswith(prefix)]
                found += [
                    int(n.removeprefix(prefix)) for n in names if n[len(prefix) :].isdecimal()
                ]
        return sorted(found)

    def begin(self) -> int:
        """Take the next number and make its table, noting which one it is, so that no worker ever
        takes another one of that name for it."""
        make_table(self.client, checkpoints_table(self.checkpoints))
        while not make_table(
            self.client,
            aggregates_table(table_of(self.base, number := self._next_number())),
        ):
            pass
        identity = self._identity(number)
        if identity is None:
            raise RebuildFailed(f"{table_of(self.base, number)} was deleted meanwhile; call again")
        note = {"pk": {"S": self._note_key(number)}, "tableId": {"S": identity}}
        mark = {"pk": {"S": consumer_of(GROUP, number)}, "begunAt": {"S": _now()}}
        with answering():
            for item in (note, mark):
                self.client.put_item(TableName=self.checkpoints, Item=item)
        return number

    def noted(self, generation: int, topic: str) -> Noted | None:
        """What a generation has noted of a topic."""
        item = self._get(f"{consumer_of(GROUP, generation)}#{topic}")
        return None if item is None else noted_of(item)

    def checkpoint(
        self, generation: int, topic: str, topic_id: str, partition: int
    ) -> Position | None:
        """From where to where a generation has come in a partition."""
        item = self._get(_checkpoint_key(generation, topic, topic_id, partition))
        if item is None:
            return None
        return Position(int(item.get("begin", {"N": "0"})["N"]), int(item["next"]["N"]))

    def counted(self, generation: int) -> set[str]:
        """The sources, as topic/partition, that a generation has items of; reads all of them."""
        return {str(parse(item["pk"]["S"], item["sk"]["S"])[1]) for item in self.items(generation)}

    def items(self, generation: int) -> Iterator[Item]:
        """All items of a generation's table; none where it has no table yet."""
        with answering():
            try:
                pages = self.client.get_paginator("scan").paginate(
                    TableName=table_of(self.base, generation), ConsistentRead=True
                )
                for page in pages:
                    yield from page["Items"]
            except ClientError as error:
                if error_code(error) != ABSENT:
                    raise

    def write(self, generation: int, items: Iterable[Item]) -> int:
        """Put items, which no one else writes, into a generation's table; how many."""
        return put_items(self.client, table_of(self.base, generation), items)

    def note(self, generation: int, topic: str, noted: Noted) -> None:
        """Note a topic, as its worker would."""
        item = noted_item(consumer_of(GROUP, generation), topic, noted)
        with answering():
            self.client.put_item(TableName=self.checkpoints, Item=item)

    def place(
        self, generation: int, part: tuple[str, str, int], position: Position, time: str
    ) -> None:
        """Write the checkpoint of a new generation for a part: topic, its id, partition."""
        item = {
            "pk": {"S": _checkpoint_key(generation, *part)},
            "begin": {"N": str(position.begin)},
            "next": {"N": str(position.next)},
            "partitionTime": {"S": time},
            "updatedAt": {"S": _now()},
        }
        with answering():
            self.client.put_item(TableName=self.checkpoints, Item=item)

    def count(self, generation: int, part: tuple[str, str, int], letters: Iterable[int]) -> None:
        """Say of these offsets of a (topic, its id, partition) that they are counted, whatever
        letter they have: as a replay does, and for the same readers."""
        topic, topic_id, partition = part
        consumer, now = consumer_of(GROUP, generation), {"S": _now()}
        keys = (replayed_key(consumer, topic, topic_id, partition, offset) for offset in letters)
        put_items(self.client, self.checkpoints, ({"pk": {"S": key}, "at": now} for key in keys))

    def complete(self, generation: int) -> None:
        """Say that table, items, checkpoints and notes are all there."""
        written = self._write(
            Update={
                **self._key(consumer_of(GROUP, generation)),
                "UpdateExpression": "SET completeAt = :now",
                "ConditionExpression": "attribute_exists(pk)",
                "ExpressionAttributeValues": {":now": {"S": _now()}},
            }
        )
        if not written:
            raise RebuildFailed(f"generation {generation} was dropped meanwhile; rebuild again")

    def unfit(self, generation: int) -> str | None:
        """Why a generation cannot be used, None when it can; 0 needs no mark."""
        mark = self._get(consumer_of(GROUP, generation)) or {}
        if generation and "completeAt" not in mark:
            return "is not complete"
        note = self._get(self._note_key(generation))
        if note is None:
            return None if generation == 0 else "has no note of its table"
        if self._identity(generation) != note["tableId"]["S"]:
            return "has lost its table: it was deleted or made again"
        return None

    def use(self, generation: int, *, instead_of: int) -> bool:
        """Make a generation the one in use; False when another than `instead_of` was, or it has
        been dropped."""
        first = "attribute_not_exists(pk) OR " if instead_of == 0 else ""
        pointer = {
            "TableName": self.checkpoints,
            "Item": {
                "pk": {"S": POINTER},
                "generation": {"N": str(generation)},
                "swappedAt": {"S": _now()},
            },
            "ConditionExpression": f"{first}generation = :old",
            "ExpressionAttributeValues": {":old": {"N": str(instead_of)}},
        }
        if generation == 0:
            return self._write(Put=pointer)
        mark = {
            **self._key(consumer_of(GROUP, generation)),
            "ConditionExpression": "attribute_exists(completeAt)",
        }
        return self._write(Put=pointer, ConditionCheck=mark)

    def drop(self, generation: int) -> None:
        """Delete all of a generation that is not in use; its number never comes again.

        A rebuild that is still making it fails. Raises RebuildFailed when it came into use.
        """
        unused = {
            **self._key(POINTER),
            "ConditionExpression": "attribute_not_exists(pk) OR generation <> :dropped",
            "ExpressionAttributeValues": {":dropped": {"N": str(generation)}},
        }
        if not self._write(Delete=self._key(consumer_of(GROUP, generation)), ConditionCheck=unused):
            raise RebuildFailed(f"generation {generation} came into use meanwhile: it stays")
        with answering():
            try:
                self.client.delete_table(TableName=table_of(self.base, generation))
            except ClientError as error:
                if error_code(error) != ABSENT:
                    raise
            pages = self.client.get_paginator("scan").paginate(
                TableName=self.checkpoints,
                ProjectionExpression="pk",
                FilterExpression="begins_with(pk, :mine)",
                ExpressionAttributeValues={":mine": {"S": f"{consumer_of(GROUP, generation)}#"}},
            )
            for item in (item for page in pages for item in page["Items"]):
                self.client.delete_item(TableName=self.checkpoints, Key={"pk": item["pk"]})

    def _next_number(self) -> int:
        while True:
            item = self._get(_LAST)
            last = 0 if item is None else int(item["last"]["N"])
            number = 1 + max([last, self.current(), *self.numbers()])
            taken = self._write(
                Put={
                    "TableName": self.checkpoints,
                    "Item": {"pk": {"S": _LAST}, "last": {"N": str(number)}},
                    "ConditionExpression": "attribute_not_exists(pk) OR #last = :last",
                    "ExpressionAttributeNames": {"#last": "last"},
                    "ExpressionAttributeValues": {":last": {"N": str(last)}},
                }
            )
            if taken:
                return number

    def _write(self, **actions: Any) -> bool:
        """All of these or none; False when a condition does not hold."""
        with answering():
            try:
                self.client.transact_write_items(
                    TransactItems=[{name: action} for name, action in actions.items()]  # type: ignore[misc]  # one name each
                )
            except ClientError as error:
                reasons: Any = error.response.get("CancellationReasons", ())
                refused = any(one.get("Code") == "ConditionalCheckFailed" for one in reasons)
                if error_code(error) != _CANCELED or not refused:
                    raise
                return False
        return True

    def _key(self, key: str) -> dict[str, Any]:
        return {"TableName": self.checkpoints, "Key": {"pk": {"S": key}}}

    def _note_key(self, generation: int) -> str:
        return note_key(consumer_of(GROUP, generation), table_of(self.base, generation))

    def _identity(self, generation: int) -> str | None:
        """Which table a generation has now; None where there is none."""
        with answering():
            try:
                answer = self.client.describe_table(TableName=table_of(self.base, generation))
            except ClientError as error:
                if error_code(error) != ABSENT:
                    raise
                return None
        return identity_of(dict(answer["Table"]))

    def _get(self, key: str) -> Item | None:
        with answering():
            try:
                answer = self.client.get_item(
                    TableName=self.checkpoints, Key={"pk": {"S": key}}, ConsistentRead=True
                )
            except ClientError as error:
                if error_code(error) != ABSENT:
                    raise
                return None
        return answer.get("Item")


def _checkpoint_key(generation: int, topic: str, topic_id: str, partition: int) -> str:
    return checkpoint_key(consumer_of(GROUP, generation), topic, topic_id, partition)


def _now() -> str:
    return format_time(SystemClock().now())
