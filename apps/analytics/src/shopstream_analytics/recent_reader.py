"""Read RecentEvents, newest first, in pages that neither skip nor repeat.

The order is (timestamp, eventId); the indexes sort by timestamp only, and a seller or a type may
lie under several keys. So a page reads on, in each key, until the timestamp is past the page's
last, and sorts what it has. A cursor is the last shown pair and the direction: what is written
meanwhile changes nothing of the pages of what was there before.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from shopstream_analytics import cursors
from shopstream_analytics.cursors import BadCursor
from shopstream_analytics.dynamo import as_unavailable
from shopstream_analytics.events import KEY_BYTES_MAX
from shopstream_analytics.recent_index import IndexKey, RecentIndexes
from shopstream_analytics.sink import SinkUnavailable
from shopstream_shared.clock import parse_time
from shopstream_shared.events.registry import EVENT_TYPES

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

#: A query whose filter matches almost nothing gives up after so many pages of 1 MB.
PAGES_MAX: Final = 200
#: A smaller page saves nothing: a request costs more than so many items.
PAGE_ITEMS_MIN: Final = 10
#: Beyond, the page's 1 MB bounds it: an item that a filter passes over is read, too.
PAGE_ITEMS_MAX: Final = 1_000
#: Queries of all requests together: some of the client's connections are left for the aggregates,
#: whatever one request of many keys asks for.
QUERIES_IN_FLIGHT_MAX: Final = 4
#: Requests that are served or wait for that; more are told to come again.
REQUESTS_MAX: Final = 32
#: A time, an id of KEY_BYTES_MAX that JSON escapes sixfold, and base64 of both.
CURSOR_CHARACTERS_MAX: Final = 8_192


class FiltersTooSparse(Exception):
    """The filters together match too little of what the first of them finds."""


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
    #: A hash: they may be long, and come with each request anyway.
    filters: str

    @property
    def position(self) -> tuple[str, str]:
        return self.timestamp, self.event_id

    def encode(self) -> str:
        return cursors.pack(self)


@dataclass(frozen=True, slots=True)
class Page:
    """Items newest first."""

    items: list[dict[str, str]]
    next: Cursor | None
    previous: Cursor | None


def parse_cursor(text: str, filters: Filters) -> Cursor:
    """Raises BadCursor."""
    cursor = cursors.unpack(text, Cursor, CURSOR_CHARACTERS_MAX)
    try:
        # DynamoDB takes no empty text for a key, and no time that is longer than a key.
        parse_time(cursor.timestamp)
    except ValueError as error:
        raise BadCursor("the cursor is not one of ours") from error
    if not cursor.event_id:
        raise BadCursor("the cursor is not one of ours")
    if cursor.filters != _hash_of(filters):
        raise BadCursor("the cursor belongs to other filters")
    return cursor


@dataclass(slots=True)
class _Stream:
    """One key's items in reading order, fetched page by page."""

    query: dict[str, Any]
    cursor: Cursor | None
    items: list[dict[str, str]] = field(default_factory=list)
    #: Up to which timestamp all is here, but perhaps not all of this very one.
    reached: str = ""
    done: bool = False
    pages: int = 0

    async def fetch(self, client: "DynamoDBClient", flights: asyncio.Semaphore) -> None:
        """One page more, each twice the one before. Raises SinkUnavailable or FiltersTooSparse."""
        if self.pages == PAGES_MAX:
            raise FiltersTooSparse(f"{PAGES_MAX} pages were read and hold too few such events")
        self.pages += 1
        async with flights:
            with as_unavailable("dynamodb"):
                page = await client.query(**self.query)
        self.query["Limit"] = min(2 * self.query["Limit"], PAGE_ITEMS_MAX)
        self.items += [
            item for item in map(_plain, page["Items"]) if _is_past(_position(item), self.cursor)
        ]
        last = page.get("LastEvaluatedKey")
        if last is None:
            self.done = True
            return
        self.query["ExclusiveStartKey"] = last
        self.reached = last["timestamp"]["S"]


@dataclass(slots=True)
class RecentReader:
    """Reads what the recent worker wrote; an index shows a write within a moment."""

    client: "DynamoDBClient"
    table: str
    indexes: RecentIndexes
    _requests: int = field(default=0, init=False)
    _flights: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(QUERIES_IN_FLIGHT_MAX), init=False
    )

    async def page(self, filters: Filters, limit: int, cursor: Cursor | None) -> Page:
        """Raises FiltersTooSparse, or SinkUnavailable, also when too many ask at the same time."""
        if any(len(value.encode()) > KEY_BYTES_MAX for value in filters.by_attribute().values()):
            return Page([], None, None)
        back = cursor is not None and cursor.back
        if self._requests >= REQUESTS_MAX:
            raise SinkUnavailable(f"recent events: {REQUESTS_MAX} requests wait", "throttled")
        self._requests += 1
        try:
            found = await self._read(filters, limit + 1, cursor)
        finally:
            self._requests -= 1
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
        """`wanted` items past the cursor if there are so many, in reading order.

        The streams are merged: what lies past the place that the slowest of them has reached may
        still have something before it, so it waits for that stream.
        """
        back = cursor is not None and cursor.back
        streams = self._streams(filters, wanted, cursor)
        behind = streams
        while True:
            await _all(stream.fetch(self.client, self._flights) for stream in behind)
            items = [item for stream in streams for item in stream.items]
            items.sort(key=_position, reverse=not back)
            if len(items) < wanted:
                behind = [stream for stream in streams if not stream.done]
            else:
                last = items[wanted - 1]["timestamp"]
                behind = [one for one in streams if not one.done and not _passed(one, last, back)]
            if not behind:
                return items[:wanted]

    def _streams(self, filters: Filters, wanted: int, cursor: Cursor | None) -> list[_Stream]:
        named = filters.by_attribute()
        if named:
            attribute = next(iter(named))
            keys = self.indexes.keys_of(attribute, named.pop(attribute))
        else:
            # No index holds all events, which would be one hot key; the types together do.
            keys = [key for name in EVENT_TYPES for key in self.indexes.keys_of("eventType", name)]
        # A fair share of the page and as much again; who is richer, or has fewer that the other
        # filters let pass, is asked again.
        limit = min(wanted + 1, max(PAGE_ITEMS_MIN, 2 * wanted // len(keys)))
        return [_Stream(_query_of(self.table, key, named, cursor, limit), cursor) for key in keys]


async def _all(fetches: Iterable[Coroutine[Any, Any, None]]) -> None:
    """The first that fails ends the others, which nobody waits for any more."""
    tasks = [asyncio.create_task(fetch) for fetch in fetches]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _passed(stream: _Stream, timestamp: str, back: bool) -> bool:  # noqa: FBT001 - as a cursor has it
    """Whether the stream has nothing more at this timestamp or before it, in reading order."""
    return stream.reached > timestamp if back else stream.reached < timestamp


def _query_of(
    table: str, key: IndexKey, others: dict[str, str], cursor: Cursor | None, limit: int
) -> dict[str, Any]:
    names = {"#k": key.attribute}
    values: dict[str, Any] = {":k": {"S": key.value}}
    condition = "#k = :k"
    if cursor is not None:
        names["#t"] = "timestamp"
        values[":t"] = {"S": cursor.timestamp}
        condition += " AND #t >= :t" if cursor.back else " AND #t <= :t"
    query: dict[str, Any] = {
        "TableName": table,
        "IndexName": key.index_name,
        "KeyConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
        "ScanIndexForward": cursor is not None and cursor.back,
        "Limit": limit,
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
    return Cursor(item["timestamp"], item["eventId"], back, _hash_of(filters))


def _hash_of(filters: Filters) -> str:
    named = msgspec.json.encode([filters.seller_id, filters.event_type, filters.subject])
    return blake2b(named, digest_size=8).hexdigest()
