"""The read API's routes. Parameters are parsed here, so that every fault has one form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from shopstream_analytics.aggregates.fold import ALL_ID, GRANULARITIES, Dimension, Granularity
from shopstream_analytics.aggregates.reader import AggregatesReader, Window
from shopstream_analytics.recent_reader import Filters, Page, RecentReader, parse_cursor
from shopstream_analytics.web.problems import Fault, InvalidRequest
from shopstream_shared.clock import parse_time
from shopstream_shared.events.registry import EVENT_TYPES

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 500

_Text = Annotated[str | None, Query()]
_From = Annotated[str | None, Query(alias="from", description="RFC 3339, inclusive")]
_To = Annotated[str | None, Query(alias="to", description="RFC 3339, exclusive")]
_Granularity = Annotated[str | None, Query(description="hour or day; default hour")]
_Seller = Annotated[str | None, Query(alias="sellerId")]
_Type = Annotated[str | None, Query(alias="type")]
_Limit = Annotated[str | None, Query(description=f"1 to {LIMIT_MAX}, default {LIMIT_DEFAULT}")]


def router(aggregates: AggregatesReader, recent: RecentReader) -> APIRouter:
    """All read routes."""
    routes = APIRouter()

    async def series(
        dimension: Dimension, name: str, start: str | None, end: str | None, step: str | None
    ) -> Response:
        granularity, window = parse_range(start, end, step)
        found = await aggregates.read(dimension, name, granularity, window)
        return JSONResponse(found.as_json())

    @routes.get("/aggregates/sellers/{seller_id}")
    async def sellers(
        seller_id: str, since: _From = None, until: _To = None, granularity: _Granularity = None
    ) -> Response:
        """What a seller's events add up to, by hour or day."""
        return await series("seller", seller_id, since, until, granularity)

    @routes.get("/aggregates/products/{product_id}")
    async def products(
        product_id: str, since: _From = None, until: _To = None, granularity: _Granularity = None
    ) -> Response:
        """What the events about a product, orders of it included, add up to."""
        return await series("product", product_id, since, until, granularity)

    @routes.get("/aggregates/event-types")
    async def event_types(
        since: _From = None, until: _To = None, granularity: _Granularity = None
    ) -> Response:
        """What all events add up to; `byType` tells the types apart."""
        return await series("all", ALL_ID, since, until, granularity)

    @routes.get("/events/recent")
    async def recent_events(
        seller_id: _Seller = None,
        event_type: _Type = None,
        subject: _Text = None,
        limit: _Limit = None,
        cursor: _Text = None,
    ) -> Response:
        """Events of the last 30 days, newest first."""
        wanted = Filters(seller_id, event_type, subject)
        count = parse_recent(wanted, limit)
        place = None if cursor is None else parse_cursor(cursor, wanted)
        page = await recent.page(wanted, count, place)
        return Response(_page_json(page), media_type="application/json")

    return routes


@dataclass(slots=True)
class _Faults:
    found: list[Fault] = field(default_factory=list)

    def moment(self, name: str, text: str | None) -> datetime | None:
        if text is None:
            return None
        try:
            return parse_time(text)
        except (ValueError, OverflowError):
            self.found.append(Fault(name, "is not a moment such as 2026-11-21T05:00:00Z"))
            return None

    def raise_any(self) -> None:
        if self.found:
            raise InvalidRequest(self.found)


def parse_range(
    since: str | None, until: str | None, granularity: str | None
) -> tuple[Granularity, Window]:
    """Raises InvalidRequest."""
    faults = _Faults()
    window = Window(faults.moment("from", since), faults.moment("to", until))
    step = next((known for known in GRANULARITIES if known == (granularity or "hour")), None)
    if step is None or granularity == "":
        faults.found.append(Fault("granularity", f"is none of {', '.join(GRANULARITIES)}"))
    if window.since is not None and window.until is not None and window.since > window.until:
        faults.found.append(Fault("from", "is later than to"))
    faults.raise_any()
    return step or "hour", window


def parse_recent(filters: Filters, limit: str | None) -> int:
    """How many items are wanted. Raises InvalidRequest."""
    faults = _Faults()
    count = LIMIT_DEFAULT
    if limit is not None:
        count = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 9 else 0  # noqa: PLR2004 - any number of digits could be sent
    if not 1 <= count <= LIMIT_MAX:
        faults.found.append(Fault("limit", f"is not a number from 1 to {LIMIT_MAX}"))
    for name, text in (("sellerId", filters.seller_id), ("subject", filters.subject)):
        if text == "":
            faults.found.append(Fault(name, "is empty"))
    if filters.event_type is not None and filters.event_type not in EVENT_TYPES:
        faults.found.append(Fault("type", "is not a type that is known"))
    faults.raise_any()
    return count


def _page_json(page: Page) -> bytes:
    body = {
        "data": [_item_json(item) for item in page.items],
        "hasMore": page.next is not None,
        "nextCursor": None if page.next is None else page.next.encode(),
        "prevCursor": None if page.previous is None else page.previous.encode(),
    }
    return msgspec.json.encode(body)


def _item_json(item: Mapping[str, str]) -> dict[str, object]:
    names = ("eventId", "eventType", "timestamp", "sellerId", "subject")
    # The event goes out as it is on the log; nobody encodes it again.
    return {**{name: item[name] for name in names}, "data": msgspec.Raw(item["data"].encode())}
