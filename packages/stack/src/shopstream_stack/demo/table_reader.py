"""Reads RecentEvents back as any DynamoDB client would."""

from collections.abc import Iterable, Iterator
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from shopstream_stack.demo.crowd import Keep
from shopstream_stack.demo.evidence import NotAnEvent, SeenEvent
from shopstream_stack.demo.stores import dynamodb_client
from shopstream_stack.demo.target import Target


class TableReader:
    """Items by seller, through the table's own index. Blocking."""

    def __init__(self, target: Target) -> None:
        self._table = target.recent_events_table
        self._dynamo = dynamodb_client(target)

    def read(self, sellers: Iterable[str], keep: Keep) -> list[SeenEvent]:
        """Every kept item of these sellers. Raises LookupError when no index serves sellers."""
        index = self._seller_index()
        found = []
        for seller in sellers:
            for item in self._items(index, seller):
                event = _event(item)
                if event is None:
                    continue
                if keep(event):
                    found.append(event)
        return found

    def _seller_index(self) -> str:
        table = self._dynamo.describe_table(TableName=self._table)["Table"]
        for index in table.get("GlobalSecondaryIndexes", ()):
            if {"AttributeName": "sellerId", "KeyType": "HASH"} in index.get("KeySchema", ()):
                return str(index.get("IndexName"))
        raise LookupError(f"table {self._table} has no index by sellerId")

    def _items(self, index: str, seller: str) -> Iterator[dict[str, Any]]:
        reader = TypeDeserializer()
        pages = self._dynamo.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=index,
            KeyConditionExpression="sellerId = :seller",
            ExpressionAttributeValues={":seller": {"S": seller}},
        )
        for page in pages:
            for item in page["Items"]:
                yield {name: reader.deserialize(value) for name, value in item.items()}


def _event(item: dict[str, Any]) -> SeenEvent | None:
    """The event of an item; None when its attributes are not those of the event in ``data``."""
    place = f"item {item.get('eventId')}"
    try:
        event = SeenEvent.read(str(item["data"]).encode(), place)
    except (NotAnEvent, KeyError):
        return None
    said = (item.get("eventId"), item.get("eventType"), item.get("sellerId"), item.get("subject"))
    held = (event.event_id, event.type, event.seller_id, event.subject)
    return event if said == held and "ttl" in item and "timestamp" in item else None
