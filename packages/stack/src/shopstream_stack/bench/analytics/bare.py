"""Bare loops: the statements of a worker and nothing else, as fast as its client can send them.

In a process of its own, as the worker is, on the same core, with the same client and as many calls
in flight. ``python -m shopstream_stack.bench.analytics.bare``, with a `Task` as one line of JSON;
it copies what a worker has written into a table of the same shape, and prints items a second of
each form once its input has another line.
"""

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal

import aioboto3
import msgspec
from aiobotocore.config import AioConfig

from shopstream_stack.bench.peer import say_ready

#: As the workers' own bounds.
IN_FLIGHT: Final = 6
TRANSACTION_ITEMS: Final = 100
PUT_ITEMS: Final = 25
CALL_SECONDS_MAX: Final = 60.0

Item = Mapping[str, Any]
Form = Callable[[Any, str, Sequence[Item]], Awaitable[None]]


class Task(msgspec.Struct):
    """What to copy. ``source`` is a worker's table, ``kind`` which statements it used."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str
    source: str
    kind: Literal["updates", "puts"]
    items_max: int


async def run(task: Task) -> None:
    """Copy once a form, into tables of their own."""
    session = aioboto3.Session(
        aws_access_key_id=task.access_key,
        aws_secret_access_key=task.secret_key,
        region_name=task.region,
    )
    config = AioConfig(max_pool_connections=IN_FLIGHT, read_timeout=CALL_SECONDS_MAX)
    async with session.client("dynamodb", endpoint_url=task.endpoint, config=config) as client:
        items = await _items(client, task)
        forms = FORMS[task.kind]
        tables = {name: await _like(client, task.source) for name in forms}
        say_ready()
        sys.stdin.readline()
        rates = {}
        for name, (size, form) in forms.items():
            begin = time.monotonic()
            await _all(client, tables[name], items, size, form)
            rates[name] = len(items) / (time.monotonic() - begin)
        sys.stdout.write(msgspec.json.encode(rates).decode() + "\n")
        sys.stdout.flush()
        sys.stdin.read()  # until killed


async def _items(client: Any, task: Task) -> list[Item]:
    items: list[Item] = []
    pages = client.get_paginator("scan").paginate(
        TableName=task.source, ConsistentRead=True, PaginationConfig={"MaxItems": task.items_max}
    )
    async for page in pages:
        items += page["Items"]
    return items


async def _like(client: Any, source: str) -> str:
    """An empty table of the same shape."""
    made = (await client.describe_table(TableName=source))["Table"]
    name = f"bare-{uuid.uuid4().hex}"
    indexes = [
        {key: index[key] for key in ("IndexName", "KeySchema", "Projection")}
        for index in made.get("GlobalSecondaryIndexes", ())
    ]
    await client.create_table(
        TableName=name,
        KeySchema=made["KeySchema"],
        AttributeDefinitions=made["AttributeDefinitions"],
        BillingMode="PAY_PER_REQUEST",
        **({"GlobalSecondaryIndexes": indexes} if indexes else {}),
    )
    return name


async def _all(client: Any, table: str, items: Sequence[Item], size: int, form: Form) -> None:
    chunks = iter([items[at : at + size] for at in range(0, len(items), size)])

    async def work() -> None:
        for chunk in chunks:
            await form(client, table, chunk)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


async def _transaction(client: Any, table: str, items: Sequence[Item]) -> None:
    actions = [{"Update": _update(table, item)} for item in items]
    await client.transact_write_items(TransactItems=actions, ClientRequestToken=uuid.uuid4().hex)


async def _single(client: Any, table: str, items: Sequence[Item]) -> None:
    await client.update_item(**_update(table, items[0]))


async def _put(client: Any, table: str, items: Sequence[Item]) -> None:
    waiting: Any = {table: [{"PutRequest": {"Item": item}} for item in items]}
    while waiting:
        waiting = (await client.batch_write_item(RequestItems=waiting)).get("UnprocessedItems")


def _update(table: str, item: Item) -> dict[str, Any]:
    """The conditional update that makes this item (protocol rule 20)."""
    keys = ("pk", "sk", "upto")
    counters = {name: value for name, value in item.items() if name not in keys and "N" in value}
    named = dict(enumerate(counters.items()))
    return {
        "TableName": table,
        "Key": {"pk": item["pk"], "sk": item["sk"]},
        "UpdateExpression": "ADD " + ", ".join(f"#c{n} :c{n}" for n in named) + " SET upto = :last",
        "ConditionExpression": "attribute_not_exists(upto) OR upto < :first",
        "ExpressionAttributeNames": {f"#c{n}": name for n, (name, _) in named.items()},
        "ExpressionAttributeValues": {
            **{f":c{n}": value for n, (_, value) in named.items()},
            ":first": item["upto"],
            ":last": item["upto"],
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


FORMS: Final[Mapping[str, Mapping[str, tuple[int, Form]]]] = {
    "updates": {
        "transactions of 100": (TRANSACTION_ITEMS, _transaction),
        "single updates": (1, _single),
    },
    "puts": {"batches of 25": (PUT_ITEMS, _put)},
}


if __name__ == "__main__":
    asyncio.run(run(msgspec.json.decode(sys.stdin.readline(), type=Task)))
