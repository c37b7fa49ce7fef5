"""The aggregates in DynamoDB: the adapter behind the port of `merge`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from botocore.exceptions import ClientError

from shopstream_analytics.aggregates.fold import ItemKey
from shopstream_analytics.aggregates.keys import keys_of
from shopstream_analytics.aggregates.merge import ItemsInvalid, ItemUpdate
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dynamo import as_unavailable, error_code

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

_REFUSED = "ConditionalCheckFailed"
#: Of a whole call: an expression or a key that DynamoDB cannot take, it does not say whose.
_INVALID = "ValidationException"
#: Of one item: too large by this update, or a number that is too long.
_ITEM_INVALID = frozenset({"ValidationError", "ItemCollectionSizeLimitExceeded"})


@dataclass(frozen=True, slots=True)
class DynamoAggregates:
    """Items of one table, updated conditionally on their ``upto``."""

    client: "DynamoDBClient"
    table: str

    async def apply(self, source: Source, updates: Sequence[ItemUpdate]) -> Mapping[ItemKey, int]:
        """See AggregateStore.apply. A new token each time: the content differs each time."""
        actions = [{"Update": self._action(source, update)} for update in updates]
        with as_unavailable("dynamodb"):
            try:
                await self.client.transact_write_items(
                    TransactItems=actions,  # type: ignore[arg-type]  # the stubs want literals
                    ClientRequestToken=str(uuid4()),
                )
            except ClientError as error:
                code = error_code(error)
                if code == _INVALID:
                    raise ItemsInvalid({}, str(error)) from error
                if code != "TransactionCanceledException":
                    raise
                if invalid := _invalid(error, updates):
                    raise ItemsInvalid(invalid, str(error)) from error
                refused = _refused(error, updates)
                if not refused:
                    # Cancelled by a conflict or a throttle alone: come again.
                    raise
                return refused
        return {}

    def _action(self, source: Source, update: ItemUpdate) -> dict[str, Any]:
        partition, sort = keys_of(update.key, source)
        names = {f"#c{number}": name for number, name in enumerate(update.delta)}
        amounts = {f":c{n}": {"N": str(amount)} for n, amount in enumerate(update.delta.values())}
        added = ", ".join(f"#c{number} :c{number}" for number in range(len(update.delta)))
        return {
            "TableName": self.table,
            "Key": {"pk": {"S": partition}, "sk": {"S": sort}},
            "UpdateExpression": f"ADD {added} SET upto = :last",
            "ConditionExpression": "attribute_not_exists(upto) OR upto < :first",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {
                **amounts,
                ":first": {"N": str(update.first)},
                ":last": {"N": str(update.last)},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


def _invalid(error: ClientError, updates: Sequence[ItemUpdate]) -> dict[ItemKey, str]:
    reasons: Sequence[Mapping[str, Any]] = error.response.get("CancellationReasons", ())
    return {
        update.key: str(reason.get("Message", ""))
        for update, reason in zip(updates, reasons, strict=False)
        if reason.get("Code") in _ITEM_INVALID
    }


def _refused(error: ClientError, updates: Sequence[ItemUpdate]) -> dict[ItemKey, int]:
    reasons: Sequence[Mapping[str, Any]] = error.response.get("CancellationReasons", ())
    return {
        update.key: int(reason["Item"]["upto"]["N"])
        for update, reason in zip(updates, reasons, strict=True)
        if reason.get("Code") == _REFUSED
    }
