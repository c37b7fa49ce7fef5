"""DynamoDB as a state machine: what it did, not what anybody was told.

Modelled: tables with their identity; conditional puts and updates; transactions of up to 100
updates, all or none, with the reason of each action, the item that refused where that is asked for,
and request tokens that make a repetition an answer and refuse other content; batches. Everything is
strongly consistent, as the service asks for it everywhere. Its methods are named and shaped as
boto3's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from botocore.exceptions import ClientError
from tests.simulation.consumers.expressions import Item, Terms
from tests.simulation.consumers.pieces import Piece

TRANSACTION_ACTIONS_MAX: Final = 100
BATCH_PUTS_MAX: Final = 25
BATCH_GETS_MAX: Final = 100
_MADE: Final = datetime(2026, 11, 21, tzinfo=UTC)
#: An offset beyond all.
_FAR: Final = {"N": str(10**12)}

Key = tuple[str, ...]


def refusal(operation: str, code: str, *, status: int = 400, **more: Any) -> ClientError:
    """An error as botocore gives it."""
    answer: Any = {
        "Error": {"Code": code, "Message": code},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **more,
    }
    return ClientError(answer, operation)


@dataclass(slots=True)
class _Table:
    definition: Mapping[str, Any]
    identity: str
    items: dict[Key, Item] = field(default_factory=dict)
    ttl: str | None = None

    def key_of(self, attributes: Mapping[str, Any]) -> Key:
        return tuple(attributes[one["AttributeName"]]["S"] for one in self.definition["KeySchema"])


def _unseen(_table: str, _before: Item | None, _after: Item) -> None:
    """For who does not look."""


@dataclass(slots=True)
class SimDynamo:
    """All tables. ``on_write`` sees each item before and after."""

    without: Piece | None = None
    on_write: Callable[[str, Item | None, Item], None] = _unseen
    tables: dict[str, _Table] = field(default_factory=dict)
    #: What each token was used for.
    _tokens: dict[str, str] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def create_table(self, **call: Any) -> dict[str, Any]:
        if call["TableName"] in self.tables:
            raise refusal("CreateTable", "ResourceInUseException")
        self.tables[call["TableName"]] = _Table(call, f"table-{next(self._numbers)}")
        return {}

    def describe_table(self, *, TableName: str) -> dict[str, Any]:  # noqa: N803 - DynamoDB's
        table = self._table("DescribeTable", TableName)
        return {
            "Table": {
                **table.definition,
                "TableStatus": "ACTIVE",
                "TableId": table.identity,
                "CreationDateTime": _MADE,
            }
        }

    def describe_time_to_live(self, *, TableName: str) -> dict[str, Any]:  # noqa: N803 - DynamoDB's
        table = self._table("DescribeTimeToLive", TableName)
        status = "DISABLED" if table.ttl is None else "ENABLED"
        return {"TimeToLiveDescription": {"TimeToLiveStatus": status}}

    def update_time_to_live(self, **call: Any) -> dict[str, Any]:
        table = self._table("UpdateTimeToLive", call["TableName"])
        if table.ttl is not None:
            raise ClientError(
                {"Error": {"Code": "ValidationException", "Message": "TTL is already enabled"}},
                "UpdateTimeToLive",
            )
        table.ttl = call["TimeToLiveSpecification"]["AttributeName"]
        return {}

    def get_item(self, **call: Any) -> dict[str, Any]:
        assert call["ConsistentRead"]
        table = self._table("GetItem", call["TableName"])
        item = table.items.get(table.key_of(call["Key"]))
        return {} if item is None else {"Item": dict(item)}

    def batch_get_item(self, **call: Any) -> dict[str, Any]:
        found: dict[str, list[Item]] = {}
        for name, wanted in call["RequestItems"].items():
            assert wanted["ConsistentRead"]
            assert len(wanted["Keys"]) <= BATCH_GETS_MAX
            table = self._table("BatchGetItem", name)
            keys = [table.key_of(key) for key in wanted["Keys"]]
            found[name] = [dict(table.items[key]) for key in keys if key in table.items]
        return {"Responses": found}

    def put_item(self, **call: Any) -> dict[str, Any]:
        table = self._table("PutItem", call["TableName"])
        key = table.key_of(call["Item"])
        if not Terms.of(call).holds(call.get("ConditionExpression"), table.items.get(key)):
            raise refusal("PutItem", "ConditionalCheckFailedException")
        self._store(call["TableName"], key, dict(call["Item"]))
        return {}

    def delete_item(self, **call: Any) -> dict[str, Any]:
        table = self._table("DeleteItem", call["TableName"])
        table.items.pop(table.key_of(call["Key"]), None)
        return {}

    def update_item(self, **call: Any) -> dict[str, Any]:
        table = self._table("UpdateItem", call["TableName"])
        key = table.key_of(call["Key"])
        moves = "#next" in call["UpdateExpression"]
        free = self.without is Piece.CHECKPOINT_CONDITION and moves
        if not free and not self._holds(table, key, call):
            raise refusal("UpdateItem", "ConditionalCheckFailedException")
        self._update(call, table, key)
        return {}

    def transact_write_items(
        self,
        *,
        TransactItems: list[Any],  # noqa: N803 - DynamoDB's
        ClientRequestToken: str,  # noqa: N803 - DynamoDB's
    ) -> dict[str, Any]:
        if len(TransactItems) > TRANSACTION_ACTIONS_MAX:
            raise refusal("TransactWriteItems", "ValidationException")
        content = repr(TransactItems)
        if (before := self._tokens.get(ClientRequestToken)) is not None:
            if before != content:
                raise refusal("TransactWriteItems", "IdempotentParameterMismatchException")
            return {}
        updates = [action["Update"] for action in TransactItems]
        tables = [self._table("TransactWriteItems", one["TableName"]) for one in updates]
        keys = [table.key_of(one["Key"]) for table, one in zip(tables, updates, strict=True)]
        places = list(zip(updates, tables, keys, strict=True))
        if len(set(keys)) < len(keys):
            raise refusal("TransactWriteItems", "ValidationException")
        if self.without is not Piece.UPTO_CONDITION:
            reasons = [self._reason(update, table, key) for update, table, key in places]
            if any(reason["Code"] != "None" for reason in reasons):
                raise refusal(
                    "TransactWriteItems",
                    "TransactionCanceledException",
                    CancellationReasons=reasons,
                )
        for update, table, key in places:
            self._update(update, table, key)
        self._tokens[ClientRequestToken] = content
        return {}

    def batch_write_item(self, *, RequestItems: dict[str, list[Any]]) -> dict[str, Any]:  # noqa: N803 - DynamoDB's
        for name, requests in RequestItems.items():
            table = self._table("BatchWriteItem", name)
            items = [request["PutRequest"]["Item"] for request in requests]
            keys = [table.key_of(item) for item in items]
            if len(requests) > BATCH_PUTS_MAX or len(set(keys)) < len(keys):
                raise refusal("BatchWriteItem", "ValidationException")
            for key, item in zip(keys, items, strict=True):
                self._store(name, key, dict(item))
        return {}

    def _table(self, operation: str, name: str) -> _Table:
        table = self.tables.get(name)
        if table is None:
            raise refusal(operation, "ResourceNotFoundException")
        return table

    def _holds(self, table: _Table, key: Key, call: Mapping[str, Any]) -> bool:
        return Terms.of(call).holds(call.get("ConditionExpression"), table.items.get(key))

    def _reason(self, update: Mapping[str, Any], table: _Table, key: Key) -> dict[str, Any]:
        if self._holds(table, key, update):
            return {"Code": "None"}
        reason: dict[str, Any] = {"Code": "ConditionalCheckFailed"}
        if update.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
            item = dict(table.items[key])
            if self.without is Piece.TRIM_BY_OLD_ITEM:
                item["upto"] = _FAR
            reason["Item"] = item
        return reason

    def _update(self, call: Mapping[str, Any], table: _Table, key: Key) -> None:
        before = table.items.get(key, dict(call["Key"]))
        self._store(
            call["TableName"], key, Terms.of(call).updated(call["UpdateExpression"], before)
        )

    def _store(self, name: str, key: Key, item: Item) -> None:
        items = self.tables[name].items
        self.on_write(name, items.get(key), item)
        items[key] = item
