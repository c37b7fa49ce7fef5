"""Whether a table is still the one that the checkpoints speak of.

A checkpoint says what is stored. Over a table that was deleted and made again it would be a lie,
and every number read from there would be wrong without a sign. So each consumer notes the id of its
table beside its checkpoints; a table that is gone, or another one under the same name, is StoreLost
(ADR 0034). Without a note, which is how every table begins, the table is made and noted.
"""

from datetime import UTC
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.dynamo import as_unavailable, error_code
from shopstream_analytics.sink import SinkMoved, StoreLost
from shopstream_analytics.tables import Table, checkpoints_table, describe_table, ensure_table

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient


async def ensure_tables(client: "DynamoDBClient", table: Table, checkpoints: Checkpoints) -> str:
    """Make the table of a consumer and that of its checkpoints unless they are there; its identity.

    Raises StoreLost when the consumer's own table was there and is not any more; SinkUnavailable.
    """
    await ensure_table(client, checkpoints_table(checkpoints.table))
    noted = await _noted(client, table.name, checkpoints)
    if noted is not None:
        with as_unavailable("dynamodb"):
            found = identity_of(await describe_table(client, table.name))
        if found != noted:
            raise lost(table.name, "was deleted" if found is None else "was made again")
    await ensure_table(client, table)
    if noted is None:
        return await _note(client, table.name, checkpoints)
    return noted


def same_table(before: str | None, now: str, name: str) -> str:
    """The identity, unless a process that began with another one still holds positions of it.

    The note beside the checkpoints cannot tell: with the checkpoints deleted, too, another worker
    makes both anew, and the two agree. Raises SinkMoved: the next worker reads all of it afresh.
    """
    if before not in {None, now}:
        raise SinkMoved(f"dynamodb: the table {name} was made again, and noted as new")
    return now


async def check_table(client: "DynamoDBClient", name: str) -> None:
    """See that a table that has been prepared is there. Raises StoreLost or SinkUnavailable."""
    with as_unavailable("dynamodb"):
        description = await describe_table(client, name)
    if description is None:
        raise lost(name, "was deleted")


def identity_of(description: dict[str, Any] | None) -> str | None:
    """The table's id, or where the store gives none (DynamoDB Local) when it was made."""
    if description is None:
        return None
    # In UTC: the client gives the time in this machine's zone, which may change.
    made = description["CreationDateTime"].astimezone(UTC).isoformat()
    return str(description.get("TableId") or made)


def lost(name: str, what: str) -> StoreLost:
    """The error, with its remedy."""
    return StoreLost(
        f"dynamodb: the table {name} {what}, and with it what the checkpoints say is stored; "
        "see `What fails` in docs/analytics.md"
    )


async def _noted(client: "DynamoDBClient", name: str, checkpoints: Checkpoints) -> str | None:
    with as_unavailable("dynamodb"):
        answer = await client.get_item(
            TableName=checkpoints.table, Key=_key(name, checkpoints), ConsistentRead=True
        )
    item = answer.get("Item")
    return None if item is None else item["tableId"]["S"]


async def _note(client: "DynamoDBClient", name: str, checkpoints: Checkpoints) -> str:
    with as_unavailable("dynamodb"):
        identity = identity_of(await describe_table(client, name))
        if identity is None:
            raise lost(name, "was deleted")
        try:
            await client.put_item(
                TableName=checkpoints.table,
                Item={**_key(name, checkpoints), "tableId": {"S": identity}},
                ConditionExpression="attribute_not_exists(pk) OR tableId = :id",
                ExpressionAttributeValues={":id": {"S": identity}},
            )
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise
            raise lost(name, "was made again") from error
    return identity


def note_key(consumer: str, table: str) -> str:
    """Under which key a consumer notes its table's id in the checkpoints table."""
    return f"{consumer}#table#{table}"


def _key(name: str, checkpoints: Checkpoints) -> dict[str, Any]:
    return {"pk": {"S": note_key(checkpoints.consumer, name)}}
