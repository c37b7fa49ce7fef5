"""What the sinks rely on of DynamoDB and S3, as scenarios that run on the real ones and the models.

A model that drifts makes the simulation prove something else. Each scenario has tables or a bucket
of its own.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from shopstream_analytics.aggregates.fold import ItemKey
from shopstream_analytics.aggregates.merge import ItemUpdate
from shopstream_analytics.aggregates.store import DynamoAggregates
from shopstream_analytics.archive.chain import Hint, Link
from shopstream_analytics.archive.store import S3Chain
from shopstream_analytics.checkpoints import CheckpointGap, Checkpoints
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dynamo import error_code
from shopstream_analytics.recent_index import RecentIndexes
from shopstream_analytics.tables import (
    aggregates_table,
    checkpoints_table,
    describe_table,
    ensure_table,
    recent_table,
)

SOURCE: Final = Source("shop.orders", 1)
OTHER: Final = Source("shop.orders", 2)
AGGREGATES: Final = "Aggregates"
CHECKPOINTS: Final = "Checkpoints"
RECENT: Final = "Recent"


@dataclass(frozen=True, slots=True)
class Stores:
    """Clients as aioboto3 gives them, of empty stores; tables carry a prefix of their own."""

    dynamo: Any
    s3: Any
    bucket: str
    prefix: str = ""

    async def tables(self) -> None:
        """Make all three."""
        for table in (
            aggregates_table(self.prefix + AGGREGATES),
            checkpoints_table(self.prefix + CHECKPOINTS),
            recent_table(self.prefix + RECENT, RecentIndexes()),
        ):
            await ensure_table(self.dynamo, table)

    @property
    def aggregates(self) -> DynamoAggregates:
        return DynamoAggregates(self.dynamo, self.prefix + AGGREGATES)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints.of(self.dynamo, self.prefix + CHECKPOINTS, "consumer")

    @property
    def chain(self) -> S3Chain:
        return S3Chain(self.s3, self.bucket)

    async def item(self, name: str, **key: str) -> dict[str, Any] | None:
        """As it is stored."""
        answer = await self.dynamo.get_item(
            TableName=self.prefix + name,
            Key={attribute: {"S": value} for attribute, value in key.items()},
            ConsistentRead=True,
        )
        found: dict[str, Any] | None = answer.get("Item")
        return found

    async def upto(self, key: ItemKey, source: Source = SOURCE) -> int | None:
        """Of an item of the aggregates."""
        item = await self.item(
            AGGREGATES,
            pk=f"{key.dimension}#{key.id}#{source.topic}#{source.partition}",
            sk=f"{key.granularity}#{key.start}",
        )
        return None if item is None else int(item["upto"]["N"])


def _key(name: str) -> ItemKey:
    return ItemKey("seller", name, "hour", "2026-11-21T05:00:00Z")


def _link(start: int, end: int, text: str) -> Link:
    return Link(start, end, start, end - 1, end - start, text, "topic-id")


async def _refusal(asked: Awaitable[Any]) -> str:
    """The code with which a call is refused, empty when it is not."""
    try:
        await asked
    except ClientError as error:
        return error_code(error)
    return ""


async def a_checkpoint_moves_from_where_it_stands_and_nowhere_else(stores: Stores) -> None:
    await stores.tables()
    one = stores.checkpoints
    assert await one.read(SOURCE, "id") is None
    with pytest.raises(CheckpointGap):
        await one.move(SOURCE, "id", start=3, to=7, fresh=False)
    await one.move(SOURCE, "id", start=3, to=7, fresh=True)
    # By somebody who starts elsewhere: it goes on from where it stands, or stays.
    await one.move(SOURCE, "id", start=3, to=5, fresh=True)
    assert await one.read(SOURCE, "id") == 7
    await one.move(SOURCE, "id", start=3, to=9, fresh=True, time="noted")
    stored = await one.stored(SOURCE, "id")
    assert stored is not None
    assert stored == (9, "noted")
    with pytest.raises(CheckpointGap):
        await one.move(SOURCE, "id", start=20, to=21, fresh=False)
    assert await one.read_many([(OTHER, "id"), (SOURCE, "id")]) == (None, 9)
    item = await stores.item(CHECKPOINTS, pk="consumer#shop.orders#id#1")
    assert item is not None
    # Set once, by if_not_exists.
    assert item["begin"]["N"] == "3"


async def an_update_is_refused_by_upto_and_takes_the_whole_carrier_with_it(stores: Stores) -> None:
    await stores.tables()
    old, new = _key("old"), _key("new")
    assert await stores.aggregates.apply(SOURCE, [ItemUpdate(old, 2, 5, {"events": 3})]) == {}
    both = [ItemUpdate(old, 5, 8, {"events": 2}), ItemUpdate(new, 6, 8, {"events": 2})]
    assert await stores.aggregates.apply(SOURCE, both) == {old: 5}
    assert (await stores.upto(old), await stores.upto(new)) == (5, None)
    rest = [ItemUpdate(old, 6, 8, {"events": 1}), ItemUpdate(new, 6, 8, {"events": 2})]
    assert await stores.aggregates.apply(SOURCE, rest) == {}
    assert (await stores.upto(old), await stores.upto(new)) == (8, 8)
    item = await stores.item(
        AGGREGATES, pk="seller#old#shop.orders#1", sk="hour#2026-11-21T05:00:00Z"
    )
    assert item is not None
    assert item["events"]["N"] == "4"


async def a_repeated_token_is_an_answer_and_not_a_second_update(stores: Stores) -> None:
    await stores.tables()
    update = {
        "TableName": stores.prefix + AGGREGATES,
        "Key": {"pk": {"S": "p"}, "sk": {"S": "s"}},
        "UpdateExpression": "ADD #n :one",
        "ExpressionAttributeNames": {"#n": "n"},
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    token = str(uuid4())
    for _ in range(2):
        await stores.dynamo.transact_write_items(
            TransactItems=[{"Update": update}], ClientRequestToken=token
        )
    item = await stores.item(AGGREGATES, pk="p", sk="s")
    assert item is not None
    assert item["n"]["N"] == "1"


async def a_token_of_before_is_refused_with_other_content(stores: Stores) -> None:
    """Protocol rule 20: a new token whenever the content changes."""
    await stores.tables()
    token = str(uuid4())

    async def add(value: str) -> str:
        update = {
            "TableName": stores.prefix + AGGREGATES,
            "Key": {"pk": {"S": "p"}, "sk": {"S": "s"}},
            "UpdateExpression": "SET upto = :v",
            "ExpressionAttributeValues": {":v": {"N": value}},
        }
        return await _refusal(
            stores.dynamo.transact_write_items(
                TransactItems=[{"Update": update}], ClientRequestToken=token
            )
        )

    assert [await add("1"), await add("1")] == ["", ""]
    assert await add("2") == "IdempotentParameterMismatchException"
    item = await stores.item(AGGREGATES, pk="p", sk="s")
    assert item is not None
    assert item["upto"]["N"] == "1"


async def a_carrier_holds_a_hundred_updates_and_no_item_twice(stores: Stores) -> None:
    await stores.tables()

    def update(name: str) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": stores.prefix + AGGREGATES,
                "Key": {"pk": {"S": name}, "sk": {"S": "s"}},
                "UpdateExpression": "SET upto = :v",
                "ExpressionAttributeValues": {":v": {"N": "1"}},
            }
        }

    for names in ([str(number) for number in range(101)], ["a", "a"]):
        refused = await _refusal(
            stores.dynamo.transact_write_items(
                TransactItems=[update(name) for name in names], ClientRequestToken=str(uuid4())
            )
        )
        assert refused == "ValidationException"


async def a_batch_replaces_items_and_names_none_twice(stores: Stores) -> None:
    await stores.tables()

    async def put(*names: str, note: str = "") -> Any:
        requests = [
            {"PutRequest": {"Item": {"eventId": {"S": name}, "note": {"S": f"n{note}"}}}}
            for name in names
        ]
        return await stores.dynamo.batch_write_item(RequestItems={stores.prefix + RECENT: requests})

    await put("a", "b")
    assert not (await put("a", note="2")).get("UnprocessedItems")
    assert await stores.item(RECENT, eventId="a") == {"eventId": {"S": "a"}, "note": {"S": "n2"}}
    assert await _refusal(put("a", "a")) == "ValidationException"
    assert await _refusal(put(*map(str, range(26)))) == "ValidationException"


async def what_is_not_there_compares_as_false(stores: Stores) -> None:
    await stores.tables()

    async def update(condition: str) -> str:
        return await _refusal(
            stores.dynamo.update_item(
                TableName=stores.prefix + CHECKPOINTS,
                Key={"pk": {"S": "k"}},
                UpdateExpression="SET a = :v",
                ConditionExpression=condition,
                ExpressionAttributeValues={":v": {"N": "5"}},
            )
        )

    assert await update("a = :v") == "ConditionalCheckFailedException"
    assert await update("b < :v") == "ConditionalCheckFailedException"
    assert await update("attribute_not_exists(pk) OR a = :v") == ""
    assert await update("attribute_not_exists(pk)") == "ConditionalCheckFailedException"
    assert await update("a = :v") == ""
    assert await update("a < :v") == "ConditionalCheckFailedException"
    assert await update("a <= :v") == ""


async def a_table_that_is_not_there_is_named_so_and_made_once(stores: Stores) -> None:
    name = stores.prefix + AGGREGATES
    assert await describe_table(stores.dynamo, name) is None
    missing = stores.dynamo.get_item(
        TableName=name, Key={"pk": {"S": "a"}, "sk": {"S": "b"}}, ConsistentRead=True
    )
    assert await _refusal(missing) == "ResourceNotFoundException"
    await stores.tables()
    again = stores.dynamo.create_table(**aggregates_table(name).definition())
    assert await _refusal(again) == "ResourceInUseException"
    # Twice: the TTL of RecentEvents is there by then.
    await stores.tables()


async def an_object_is_created_once_and_the_second_writer_sees_the_first(stores: Stores) -> None:
    first, second = _link(0, 4, "one"), _link(0, 7, "two")
    assert await stores.chain.create("events/k", b"one", first) is None
    assert await stores.chain.create("events/k", b"two", second) == first
    answer = await stores.s3.get_object(Bucket=stores.bucket, Key="events/k")
    async with answer["Body"] as stream:
        assert await stream.read() == b"one"


async def a_hint_is_replaced_and_one_that_is_not_there_is_none(stores: Stores) -> None:
    assert await stores.chain.read_hint(SOURCE) is None
    for position in (4, 9):
        await stores.chain.write_hint(SOURCE, Hint(position, "topic-id", "k"))
    assert await stores.chain.read_hint(SOURCE) == Hint(9, "topic-id", "k")
    assert await stores.chain.read_hint(SOURCE, 1) is None
    assert await stores.chain.read_epochs("shop.orders") == ()


async def the_last_object_of_a_chain_is_found_by_its_offset(stores: Stores) -> None:
    assert await stores.chain.last(SOURCE) is None
    hours = ("05", "04")
    for (start, end), hour in zip(((0, 4), (4, 9)), hours, strict=True):
        key = (
            f"events/topic=shop.orders/year=2026/month=11/day=21/hour={hour}/"
            f"shop.orders+1+{start:020d}.jsonl.zst"
        )
        assert await stores.chain.create(key, b"x", _link(start, end, "x")) is None
    last = await stores.chain.last(SOURCE)
    assert last is not None
    assert (last.start, last.next) == (4, 9)


async def a_hint_that_has_moved_is_not_overwritten_by_its_tag(stores: Stores) -> None:
    async def put(**conditions: str) -> str:
        return await _refusal(
            stores.s3.put_object(Bucket=stores.bucket, Key="h", Body=b"x", **conditions)
        )

    assert await put(IfNoneMatch="*") == ""
    assert await put(IfNoneMatch="*") == "PreconditionFailed"
    tag = (await stores.s3.get_object(Bucket=stores.bucket, Key="h"))["ETag"]
    assert await put(IfMatch='"no-such-tag"') == "PreconditionFailed"
    assert await put(IfMatch=tag) == ""
    assert await _refusal(stores.s3.head_object(Bucket=stores.bucket, Key="none")) == "404"


SCENARIOS: Final[Sequence[Callable[[Stores], Awaitable[None]]]] = (
    a_checkpoint_moves_from_where_it_stands_and_nowhere_else,
    an_update_is_refused_by_upto_and_takes_the_whole_carrier_with_it,
    a_repeated_token_is_an_answer_and_not_a_second_update,
    a_token_of_before_is_refused_with_other_content,
    a_carrier_holds_a_hundred_updates_and_no_item_twice,
    a_batch_replaces_items_and_names_none_twice,
    what_is_not_there_compares_as_false,
    a_table_that_is_not_there_is_named_so_and_made_once,
    an_object_is_created_once_and_the_second_writer_sees_the_first,
    a_hint_is_replaced_and_one_that_is_not_there_is_none,
    the_last_object_of_a_chain_is_found_by_its_offset,
    a_hint_that_has_moved_is_not_overwritten_by_its_tag,
)
