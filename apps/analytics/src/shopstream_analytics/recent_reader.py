"""Read RecentEvents, newest first, in pages that neither skip nor repeat.

The order is (timestamp, eventId); the indexes sort by timestamp only, so a page reads on until the
timestamp changes and sorts what it has. A cursor is the last shown pair and the direction.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from shopstream_analytics.dynamo import as_unavailable
from shopstream_analytics.events import KEY_BYTES_MAX
from shopstream_analytics.sink import SinkUnavailable
from shopstream_analytics.tables import RECENT_INDEXES
from shopstream_shared.events.registry import EVENT_TYPES

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

#: A query whose filter matches almost nothing gives up after so many pages of 1 MB.
PAGES_MAX: Final = 200
CURSOR_CHARACTERS_MAX: Final = 512


class BadCursor(ValueError):
    """The cursor is not one of ours, or of other filters."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Exact matches; None matches all."""

    seller_id: str | None = None
    event_type: str | None = None
    subject: str | None = None

    def by_attribute(self) -> dict[str, str]:
        """Most selective first: its index is the one that is read."""
        named = {
            "subject": self.subject,
            "sellerId": self.seller_id,
            "eventType": self.event_type,
        }
        return {name: value for name, value in named.items() if value is not None}


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The pair after which the page starts; ``back``: towards the newer ones."""

    timestamp: str
    event_id: str
    back: bool
    filters: list[str | None]

    @property
    def position(self) -> tuple[str, str]:
        return self.timestamp, self.event_id

    def encode(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Page:
    """Items newest first."""

    items: list[dict[str, str]]
    next: Cursor | None
    previous: Cursor | None


def parse_cursor(text: str, filters: Filters) -> Cursor:
    """Raises BadCursor."""
    if len(text) > CURSOR_CHARACTERS_MAX:
        raise BadCursor("the cursor is too long")
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        cursor = msgspec.json.decode(
            base64.b64decode(padded, altchars=b"-_", validate=True), type=Cursor
        )
    except (UnicodeError, binascii.Error, msgspec.MsgspecError) as error:
        raise BadCursor("the cursor is not one of ours") from error
    if cursor.filters != _as_list(filters):
        raise BadCursor("the cursor belongs to other filters")
    return cursor


@dataclass(frozen=True, slots=True)
class RecentReader:
    """Reads what the recent worker wrote; an index shows a write within a moment."""

    client: "DynamoDBClient"
    table: str

    async def page(self, filters: Filters, limit: int, cursor: Cursor | None) -> Page:
        """Raises SinkUnavailable."""
        if any(len(value.encode()) > KEY_BYTES_MAX for value in filters.by_attribute().values()):
            return Page([], None, None)
        back = cursor is not None and cursor.back
        found = await self._read(filters, limit + 1, cursor)
        more = len(found) > limit
        shown = found[:limit]
        if back:
            shown.reverse()
        older = more if not back else cursor is not None
        newer = more if back else cursor is not None
        return Page(
            shown,
            _cursor(shown[-1], filters, back=False) if shown and older else None,
            _cursor(shown[0], filters, back=True) if shown and newer else None,
        )

    async def _read(
        self, filters: Filters, wanted: int, cursor: Cursor | None
    ) -> list[dict[str, str]]:
        """At least `wanted` items past the cursor if there are so many, in reading order."""
        named = filters.by_attribute()
        if named:
            attribute = next(iter(named))
            keys = [(attribute, named.pop(attribute))]
        else:
            # No index holds all events, which would be one hot key; the types together do.
            keys = [("eventType", name) for name in EVENT_TYPES]
        found = await asyncio.gather(
            *(self._query(attribute, value, named, wanted, cursor) for attribute, value in keys)
        )
        items = [item for items in found for item in items]
        back = cursor is not None and cursor.back
        items.sort(key=_position, reverse=not back)
        return items[:wanted]

    async def _query(
        self,
        attribute: str,
        value: str,
        others: dict[str, str],
        wanted: int,
        cursor: Cursor | None,
    ) -> list[dict[str, str]]:
        query = _query_of(self.table, attribute, value, others, cursor)
        query["Limit"] = wanted + 1
        items: list[dict[str, str]] = []
        for _ in range(PAGES_MAX):
            with as_unavailable("dynamodb"):
                page = await self.client.query(**query)
            items.extend(
                item for item in map(_plain, page["Items"]) if _is_past(_position(item), cursor)
            )
            if "LastEvaluatedKey" not in page or _complete(items, wanted):
                return items
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        raise SinkUnavailable("dynamodb: the filters match too little to be read at once")


def _complete(items: Sequence[dict[str, str]], wanted: int) -> bool:
    """Enough, and the last timestamp is past the page's: no equal one is still to come."""
    return len(items) > wanted and items[-1]["timestamp"] != items[wanted - 1]["timestamp"]


def _query_of(
    table: str, attribute: str, value: str, others: dict[str, str], cursor: Cursor | None
) -> dict[str, Any]:
    names = {"#k": attribute}
    values: dict[str, Any] = {":k": {"S": value}}
    condition = "#k = :k"
    if cursor is not None:
        names["#t"] = "timestamp"
        values[":t"] = {"S": cursor.timestamp}
        condition += " AND #t >= :t" if cursor.back else " AND #t <= :t"
    query: dict[str, Any] = {
        "TableName": table,
        "IndexName": RECENT_INDEXES[attribute],
        "KeyConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
        "ScanIndexForward": cursor is not None and cursor.back,
    }
    if others:
        clauses = []
        for number, (name, wanted) in enumerate(others.items()):
            names[f"#f{number}"] = name
            values[f":f{number}"] = {"S": wanted}
            clauses.append(f"#f{number} = :f{number}")
        query["FilterExpression"] = " AND ".join(clauses)
    return query


def _plain(item: dict[str, Any]) -> dict[str, str]:
    return {name: value["S"] for name, value in item.items() if "S" in value}


def _position(item: dict[str, str]) -> tuple[str, str]:
    return item["timestamp"], item["eventId"]


def _is_past(position: tuple[str, str], cursor: Cursor | None) -> bool:
    if cursor is None:
        return True
    return position > cursor.position if cursor.back else position < cursor.position


def _cursor(item: dict[str, str], filters: Filters, *, back: bool) -> Cursor:
    return Cursor(item["timestamp"], item["eventId"], back, _as_list(filters))


def _as_list(filters: Filters) -> list[str | None]:
    return [filters.seller_id, filters.event_type, filters.subject]
