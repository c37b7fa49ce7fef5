"""DynamoDB as the check reads it: checkpoints, aggregates and RecentEvents, item by item."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from shopstream_shared.clock import format_time, parse_time
from shopstream_shared.generations import POINTER, checkpoint_key, consumer_of, table_of
from shopstream_stack.demo.target import Target
from shopstream_stack.errors import StackError
from shopstream_stack.verify.lives import Lives, item_key, real_place
from shopstream_stack.verify.log import Place
from shopstream_stack.verify.spool import Spool, Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

AGGREGATES: Final = "analytics-aggregates"
RECENT: Final = "analytics-recent"

#: The counters that any item may have; all others are of a type or a currency.
PLAIN: Final = ("events", "orders", "units", "cancelled", "lowStockWarnings", "outOfStock")
#: ``key``: partition key, a bar, sort key. ``id``: its md5, by which items are joined.
ITEMS: Final = {
    "id": "UUID",
    "key": "VARCHAR",
    "upto": "BIGINT",
    **{f'"{name}"': "HUGEINT" for name in PLAIN},
}
#: A row a counter that is not in `PLAIN`.
COUNTERS: Final = {"id": "UUID", "name": "VARCHAR", "value": "HUGEINT"}
RECENT_EVENTS: Final = {
    "event_id": "VARCHAR",
    "type": "VARCHAR",
    "seller": "VARCHAR",
    "subject": "VARCHAR",
    "timestamp": "VARCHAR",
    "ttl": "BIGINT",
    "digest": "UUID",
}
#: Topic, its id, partition, offset; an item's own marker has a fifth.
_REPLAYED_PARTS: Final = 4
_KEYS: Final = frozenset({"pk", "sk", "upto"})
_OURS: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")

Item = Mapping[str, Any]


class _Timed(msgspec.Struct):
    time: str


_timed: Final = msgspec.json.Decoder(_Timed)


def in_our_form(timestamp: str, data: bytes) -> str:
    """The timestamp of an item, as our encoder writes the moment, six digits and Z.

    An event of somebody else may write it otherwise, and RecentEvents keeps it as it is; it is
    changed only where ``data`` has the very same text, so that what was altered stays so.
    """
    if _OURS.fullmatch(timestamp):
        return timestamp
    try:
        if _timed.decode(data).time == timestamp:
            return format_time(parse_time(timestamp))
    except (msgspec.MsgspecError, ValueError):
        pass
    return timestamp


class Tables:
    """The three tables. Blocking; raises StackError when DynamoDB does not answer."""

    def __init__(self, target: Target, client: "DynamoDBClient") -> None:
        self._target = target
        self._client = client

    def missing(self) -> list[str]:
        """The tables that are not there: their worker has never run."""
        target = self._target
        if not self._exists(target.checkpoints_table):
            return [target.checkpoints_table]
        aggregates = table_of(target.aggregates_table, self.generation())
        names = (target.recent_events_table, aggregates)
        return [name for name in names if not self._exists(name)]

    def generation(self) -> int:
        """Which generation of the aggregates is in use (docs/analytics.md, Rebuild)."""
        item = self._get(POINTER)
        return 0 if item is None else int(item["generation"]["N"])

    def checkpoint(self, consumer: str, topic_id: str, place: Place) -> int:
        """The next offset of a consumer in a partition, as the archive names it; 0 before its
        first."""
        if consumer == AGGREGATES:
            consumer = consumer_of(consumer, self.generation())
        item = self._get(checkpoint_key(consumer, place.topic, topic_id, place.partition))
        return 0 if item is None else int(item["next"]["N"])

    def replayed(self, ids: Mapping[Place, str]) -> set[tuple[str, int, int]]:
        """Topic, partition and offset of each dead letter that was taken in after all.

        By a replay, or by the rebuild that made the aggregates in use; ``ids``: each place's topic
        id. A replay that was cut short is none: its marker comes last.
        """
        places = {(*real_place(place), one): place for place, one in ids.items()}
        begin = f"{consumer_of(AGGREGATES, self.generation())}#replayed#"
        found = set()
        for item in self._scan(self._target.checkpoints_table):
            key = _text(item, "pk")
            parts = key.removeprefix(begin).split("#")
            if not key.startswith(begin) or len(parts) != _REPLAYED_PARTS:
                continue
            topic, topic_id, partition, offset = parts
            place = places.get((topic, int(partition), topic_id))
            if place is not None:
                found.add((*place, int(offset)))
        return found

    def items_into(self, spool: Spool, lives: Lives) -> bool:
        """Fill the tables ``items`` and ``counters``; False when the workers moved meanwhile."""
        generation = self.generation()
        table = table_of(self._target.aggregates_table, generation)
        names = lives.names()
        with spool.table("items", ITEMS) as items, spool.table("counters", COUNTERS) as counters:
            for item in self._scan(table):
                partition = _text(item, "pk")
                if names:
                    partition = item_key(names, partition)
                key = f"{partition}|{_text(item, 'sk')}"
                values = {name: _number(item, name, 0) for name in item.keys() - _KEYS}
                add_item(items, counters, key, _number(item, "upto", -1), values)
                items.checkpoint()
                counters.checkpoint()
        return self.generation() == generation

    def recent_into(self, spool: Spool) -> None:
        """Fill the table ``recent``."""
        with spool.table("recent", RECENT_EVENTS) as recent:
            for item in self._scan(self._target.recent_events_table):
                names = ("eventId", "eventType", "sellerId", "subject")
                data = _text(item, "data").encode()
                time = in_our_form(_text(item, "timestamp"), data)
                digest = hashlib.sha256(data).hexdigest()[:32]
                recent.add(
                    (*(_text(item, n) for n in names), time, _number(item, "ttl", 0), digest)
                )
                recent.checkpoint()

    def _get(self, key: str) -> Item | None:
        try:
            answer = self._client.get_item(
                TableName=self._target.checkpoints_table,
                Key={"pk": {"S": key}},
                ConsistentRead=True,
            )
        except (BotoCoreError, ClientError) as error:
            raise self._away(error) from error
        return answer.get("Item")

    def _scan(self, table: str) -> Iterator[Item]:
        try:
            pages = self._client.get_paginator("scan").paginate(
                TableName=table, ConsistentRead=True
            )
            for page in pages:
                yield from page["Items"]
        except (BotoCoreError, ClientError) as error:
            raise self._away(error) from error

    def _exists(self, table: str) -> bool:
        try:
            self._client.describe_table(TableName=table)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return False
            raise self._away(error) from error
        except BotoCoreError as error:
            raise self._away(error) from error
        return True

    def _away(self, error: Exception) -> StackError:
        return StackError(f"DynamoDB at {self._target.dynamo_endpoint} cannot be read: {error}")


def add_item(items: Table, counters: Table, key: str, upto: int, values: Mapping[str, int]) -> None:
    """Add an aggregate item, ``values`` by counter."""
    # What stands for the key; DuckDB's own md5 gives the same.
    short = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    items.add((short, key, upto, *(values.get(name, 0) for name in PLAIN)))
    for name in values.keys() - set(PLAIN):
        counters.add((short, name, values[name]))


def _text(item: Item, name: str) -> str:
    return str(item.get(name, {}).get("S", ""))


def _number(item: Item, name: str, otherwise: int) -> int:
    return int(item.get(name, {}).get("N", otherwise))
