"""The DynamoDB tables: made when missing, checked when there."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from shopstream_analytics.dynamo import as_unavailable, error_code
from shopstream_analytics.recent_index import RecentIndexes
from shopstream_analytics.sink import SinkUnavailable

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient


@dataclass(frozen=True, slots=True)
class Table:
    """Keys are strings. ``indexes``: hash attribute -> name, sorted by ``index_sort``."""

    name: str
    hash_key: str
    sort_key: str | None = None
    indexes: tuple[tuple[str, str], ...] = ()
    index_sort: str | None = None
    ttl: str | None = None

    def key_names(self) -> list[str]:
        """All attributes that are part of a key."""
        names = [self.hash_key, self.sort_key, self.index_sort, *(key for key, _ in self.indexes)]
        return sorted({name for name in names if name is not None})

    def definition(self) -> dict[str, Any]:
        """The arguments of CreateTable."""
        definition: dict[str, Any] = {
            "TableName": self.name,
            "AttributeDefinitions": [
                {"AttributeName": n, "AttributeType": "S"} for n in self.key_names()
            ],
            "KeySchema": _schema(self.hash_key, self.sort_key),
            "BillingMode": "PAY_PER_REQUEST",
        }
        if self.indexes:
            definition["GlobalSecondaryIndexes"] = [
                {
                    "IndexName": name,
                    "KeySchema": _schema(key, self.index_sort),
                    "Projection": {"ProjectionType": "ALL"},
                }
                for key, name in self.indexes
            ]
        return definition


def aggregates_table(name: str) -> Table:
    """An item a bucket, series and source partition (protocol rule 20)."""
    return Table(name, hash_key="pk", sort_key="sk")


def checkpoints_table(name: str) -> Table:
    """A position per consumer, topic epoch and partition (protocol rule 19)."""
    return Table(name, hash_key="pk")


def recent_table(name: str, indexes: RecentIndexes) -> Table:
    """An item an event, which leaves by its ``ttl``."""
    return Table(
        name,
        hash_key="eventId",
        indexes=indexes.of_table(),
        index_sort="timestamp",
        ttl="ttl",
    )


async def ensure_table(client: "DynamoDBClient", table: Table) -> None:
    """Make the table unless it is there. Raises SinkUnavailable, also while it is being made."""
    with as_unavailable("dynamodb"):
        description = await describe_table(client, table.name)
        if description is None:
            try:
                await client.create_table(**table.definition())
            except ClientError as error:
                # Another worker was faster.
                if error_code(error) != "ResourceInUseException":
                    raise
            description = await describe_table(client, table.name) or {}
        _check(table, description)
        if table.ttl is not None:
            await _ensure_ttl(client, table.name, table.ttl)


async def describe_table(client: "DynamoDBClient", name: str) -> dict[str, Any] | None:
    """What DynamoDB says of the table, None when there is none. Raises what botocore raises."""
    try:
        answer = await client.describe_table(TableName=name)
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
        return None
    return dict(answer["Table"])


def _check(table: Table, description: dict[str, Any]) -> None:
    if description.get("TableStatus") != "ACTIVE":
        raise SinkUnavailable(f"dynamodb: table {table.name} is being made")
    if description["KeySchema"] != _schema(table.hash_key, table.sort_key):
        raise SinkUnavailable(f"dynamodb: table {table.name} has other keys than ours")
    found = {one["IndexName"]: one for one in description.get("GlobalSecondaryIndexes", ())}
    if missing := {name for _, name in table.indexes} - found.keys():
        raise SinkUnavailable(
            f"dynamodb: table {table.name} lacks the index {min(missing)}; set "
            "SHOPSTREAM_RECENT_SHARDS as it was when the table was made, or name another table"
        )
    for hash_key, name in table.indexes:
        if found[name]["KeySchema"] != _schema(hash_key, table.index_sort):
            raise SinkUnavailable(
                f"dynamodb: index {name} of table {table.name} has other keys than ours; "
                "delete the table and call `shopstream sinks restart`"
            )
    # A key of another type refuses every item, which a look at the items alone would blame on them.
    types = {
        one["AttributeName"]: one["AttributeType"] for one in description["AttributeDefinitions"]
    }
    if others := {name for name in table.key_names() if types.get(name) != "S"}:
        raise SinkUnavailable(
            f"dynamodb: the key {min(others)} of table {table.name} is no string; "
            "delete the table and call `shopstream sinks restart`"
        )


async def _ensure_ttl(client: "DynamoDBClient", name: str, attribute: str) -> None:
    answer = await client.describe_time_to_live(TableName=name)
    status = answer["TimeToLiveDescription"].get("TimeToLiveStatus", "DISABLED")
    if status in {"ENABLED", "ENABLING"}:
        return
    try:
        await client.update_time_to_live(
            TableName=name,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": attribute},
        )
    except ClientError as error:
        # Another worker was faster; the next look finds it enabled.
        if "already enabled" not in str(error):
            raise
        raise SinkUnavailable(f"dynamodb: table {name} is being made") from error


def _schema(hash_key: str, sort_key: str | None) -> list[dict[str, str]]:
    schema = [{"AttributeName": hash_key, "KeyType": "HASH"}]
    if sort_key is not None:
        schema.append({"AttributeName": sort_key, "KeyType": "RANGE"})
    return schema
