"""The read API's routes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from shopstream_analytics.aggregates.derived import TOP_BY, TopBy
from shopstream_analytics.aggregates.fold import (
    ALL_ID,
    GRANULARITIES,
    Dimension,
    Granularity,
)
from shopstream_analytics.aggregates.reader import Series, TopProducts, Window
from shopstream_analytics.recent_reader import Filters, Page, RecentReader, parse_cursor
from shopstream_analytics.web.forms import (
    MEDIA_TYPES,
    Content,
    answer,
    form_of,
    only_json,
    tagged,
)
from shopstream_analytics.web.operations import Operation, Parameter
from shopstream_analytics.web.parameters import (
    CURRENCY,
    LIMIT_DEFAULT,
    LIMIT_MAX,
    TOP_DEFAULT,
    TOP_MAX,
    parse_range,
    parse_recent,
    parse_top,
)
from shopstream_shared.events.registry import EVENT_TYPES

_TEXT: Final = {"type": "string", "minLength": 1}
_TIME: Final = {"type": "string", "format": "date-time"}
FORMAT: Final = Parameter(
    "format",
    "A file instead of JSON; else the header Accept decides.",
    {"type": "string", "enum": list(MEDIA_TYPES), "default": "json"},
    "json",
)
RANGE: Final = (
    Parameter("from", "The first moment; inclusive.", _TIME, "2026-11-21T00:00:00Z"),
    Parameter("to", "The moment after the last; exclusive.", _TIME, "2026-11-22T00:00:00Z"),
    Parameter(
        "granularity",
        "The size of a bucket, in UTC.",
        {"type": "string", "enum": list(GRANULARITIES), "default": "hour"},
        "day",
    ),
    FORMAT,
)
SELLER: Final = Parameter("sellerId", "The seller.", _TEXT, "seller1", where="path")
PRODUCT: Final = Parameter(
    "productId", "The product.", _TEXT, "0192f5c1-7a10-7c3e-9a57-3f1b6f0d2a11", where="path"
)
_REFUSALS: Final = ("validation_failed", "range_too_large")
_BUCKETS: Final = (
    "One bucket an hour or day that holds anything, oldest first, by the events' own time; "
    "`totals` adds them up. What nobody has sold yet is 200 with zeros. Without `from` and `to`: "
    "everything."
)
_RECENT: Final = (
    Parameter("sellerId", "Events of this seller.", _TEXT, "seller1"),
    Parameter(
        "type",
        "Events of this type.",
        {"type": "string", "enum": list(EVENT_TYPES)},
        "product.created",
    ),
    Parameter("subject", "Events about this product or order.", _TEXT, "any"),
    Parameter(
        "limit",
        "How many at most.",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
        20,
    ),
    Parameter("cursor", "`nextCursor` or `prevCursor` of a page before.", {"type": "string"}, None),
)


#: A number worked out from the counters: its schema, the path's last word, what it is.
_WORKED_OUT: Final[Mapping[str, tuple[str, str, Callable[[Series], dict[str, object]]]]] = {
    "Funnel": ("funnel", "How many orders reached each state", Series.funnel_json),
    "OrderValues": ("order-values", "What paid orders were worth", Series.order_values_json),
    "Timeliness": ("timeliness", "How many events came late or ahead", Series.timeliness_json),
}
_TOP: Final = (
    Parameter("day", "The UTC day.", {"type": "string", "format": "date"}, "2026-11-21"),
    Parameter(
        "by",
        "What ranks them.",
        {"type": "string", "enum": list(TOP_BY), "default": TOP_BY[0]},
        "revenue",
    ),
    Parameter(
        "currency",
        "Of the revenue; only with by=revenue.",
        {"type": "string", "pattern": f"^{CURRENCY.pattern}$"},
        "USD",
    ),
    Parameter(
        "limit",
        "How many at most.",
        {"type": "integer", "minimum": 1, "maximum": TOP_MAX, "default": TOP_DEFAULT},
        10,
    ),
)


class Aggregates(Protocol):
    """Where series are read."""

    async def top_products(
        self, seller: str, day: date, by: TopBy, currency: str | None, limit: int
    ) -> TopProducts:
        """Raises TooManyProducts or SinkUnavailable."""
        ...

    async def read(
        self, dimension: Dimension, series: str, granularity: Granularity, window: Window
    ) -> Series:
        """Raises TooManyBuckets or SinkUnavailable."""
        ...


class Reads:
    """The routes over the two readers."""

    def __init__(self, aggregates: Aggregates, recent: RecentReader) -> None:
        self._aggregates = aggregates
        self._recent = recent

    def operations(self) -> Sequence[Operation]:
        """All read routes."""
        return (
            *(one for schema in _WORKED_OUT for one in self._worked_out(schema)),
            Operation(
                name="topProducts",
                path="/aggregates/sellers/{sellerId}/top-products",
                handler=self._top_products,
                summary="A seller's best sold products of a day",
                answer="TopProducts",
                parameters=(SELLER, *_TOP),
                codes=("validation_failed", "too_many_products"),
                tagged=True,
            ),
            Operation(
                name="sellerAggregates",
                path="/aggregates/sellers/{sellerId}",
                handler=self._sellers,
                summary="What a seller's events add up to, by hour or day",
                description=_BUCKETS,
                answer="Series",
                parameters=(SELLER, *RANGE),
                codes=_REFUSALS,
                forms=True,
            ),
            Operation(
                name="productAggregates",
                path="/aggregates/products/{productId}",
                handler=self._products,
                summary="What the events about a product, orders of it included, add up to",
                description=_BUCKETS,
                answer="Series",
                parameters=(PRODUCT, *RANGE),
                codes=_REFUSALS,
                forms=True,
            ),
            Operation(
                name="eventTypeAggregates",
                path="/aggregates/event-types",
                handler=self._event_types,
                summary="What all events add up to; `byType` tells the types apart",
                description=_BUCKETS,
                answer="Series",
                parameters=RANGE,
                codes=_REFUSALS,
                forms=True,
            ),
            Operation(
                name="recentEvents",
                path="/events/recent",
                handler=self._events,
                summary="Events of the last 30 days, newest first",
                answer="RecentEventPage",
                parameters=_RECENT,
                codes=("invalid_cursor", "validation_failed", "filters_too_sparse"),
            ),
        )

    def _worked_out(self, schema: str) -> Iterator[Operation]:
        """Of one seller, and of all."""
        word, summary, body = _WORKED_OUT[schema]

        async def of_seller(request: Request) -> Response:
            only_json(request)
            seller = request.path_params["sellerId"]
            return tagged(request, body(await self._read(request, "seller", seller)))

        async def of_all(request: Request) -> Response:
            only_json(request)
            return tagged(request, body(await self._read(request, "all", ALL_ID)))

        for path, handler, whose, own in (
            (f"/aggregates/sellers/{{sellerId}}/{word}", of_seller, "Seller", (SELLER,)),
            (f"/aggregates/{word}", of_all, "All", ()),
        ):
            yield Operation(
                name=f"{schema[0].lower()}{schema[1:]}Of{whose}",
                path=path,
                handler=handler,
                summary=summary,
                answer=schema,
                parameters=(*own, *RANGE[:-1]),
                codes=_REFUSALS,
                tagged=True,
            )

    async def _top_products(self, request: Request) -> Response:
        only_json(request)
        day, by, currency, limit = parse_top(request.query_params)
        seller = request.path_params["sellerId"]
        found = await self._aggregates.top_products(seller, day, by, currency, limit)
        return tagged(request, found.as_json())

    async def _sellers(self, request: Request) -> Response:
        seller = request.path_params["sellerId"]
        return await self._series(request, "seller", seller, f"seller-{seller}")

    async def _products(self, request: Request) -> Response:
        product = request.path_params["productId"]
        return await self._series(request, "product", product, f"product-{product}")

    async def _event_types(self, request: Request) -> Response:
        return await self._series(request, "all", ALL_ID, ALL_ID)

    async def _series(
        self, request: Request, dimension: Dimension, series: str, name: str
    ) -> Response:
        # Before anything is read for it.
        form_of(request)
        found = await self._read(request, dimension, series)
        return await answer(request, Content.of_series(found, name))

    async def _read(self, request: Request, dimension: Dimension, series: str) -> Series:
        query = request.query_params
        granularity, window = parse_range(
            query.get("from"), query.get("to"), query.get("granularity")
        )
        return await self._aggregates.read(dimension, series, granularity, window)

    async def _events(self, request: Request) -> Response:
        only_json(request)
        query = request.query_params
        wanted = Filters(query.get("sellerId"), query.get("type"), query.get("subject"))
        count = parse_recent(wanted, query.get("limit"))
        cursor = query.get("cursor")
        place = None if cursor is None else parse_cursor(cursor, wanted)
        page = await self._recent.page(wanted, count, place)
        return Response(_page_json(page), media_type=MEDIA_TYPES["json"])


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
