"""The bodies of the answers as JSON Schemas, each with an example of one shop's story."""

from collections.abc import Mapping
from typing import Any, Final

from shopstream_analytics.web.forms import Form
from shopstream_shared.events.registry import EVENT_TYPES

Schema = dict[str, Any]

_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TEXT: Final[Schema] = {"type": "string"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_CURSOR: Final[Schema] = {"type": ["string", "null"]}


def _object(properties: Mapping[str, Schema], **more: Any) -> Schema:
    """An object that has all of these members."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        **more,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _page(name: str) -> Schema:
    return _object(
        {
            "data": {"type": "array", "items": _ref(name)},
            "hasMore": {"type": "boolean"},
            "nextCursor": _CURSOR,
            "prevCursor": _CURSOR,
        }
    )


_COUNTERS: Final[dict[str, Schema]] = {
    "events": _COUNT,
    "byType": {
        "type": "object",
        "description": "Events by type; a type without any is left out.",
        "propertyNames": {"enum": list(EVENT_TYPES)},
        "additionalProperties": _COUNT,
    },
    "orders": _COUNT,
    "units": _COUNT,
    "cancelled": _COUNT,
    "revenueMinor": {
        "type": "object",
        "description": "By currency, in minor units; refunds may put it below 0.",
        "propertyNames": {"pattern": "^[A-Z]{3}$"},
        "additionalProperties": {"type": "integer"},
    },
    "lowStockWarnings": _COUNT,
    "outOfStock": _COUNT,
}
_EVENT: Final[dict[str, Schema]] = {
    "eventId": _TEXT,
    "eventType": {"type": "string", "enum": list(EVENT_TYPES)},
    "timestamp": _TIME,
    "sellerId": _TEXT,
    "subject": {**_TEXT, "description": "The product or order it is about."},
    "data": {"type": "object", "description": "The whole event, as it is on the log."},
}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Series": _object(
        {
            "granularity": {"type": "string", "enum": ["hour", "day"]},
            "buckets": {"type": "array", "items": _ref("Bucket"), "maxItems": 20_000},
            "totals": _ref("Totals"),
        }
    ),
    "Bucket": _object({"start": {**_TIME, "description": "In UTC."}, **_COUNTERS}),
    "Totals": _object(_COUNTERS),
    "RecentEvent": _object(_EVENT),
    "RecentEventPage": _page("RecentEvent"),
    "Problem": _object(
        {
            "type": {"type": "string", "format": "uri-reference"},
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "instance": _TEXT,
            "code": _TEXT,
            "requestId": _TEXT,
            "errors": {
                "type": "array",
                "items": _object({"pointer": _TEXT, "code": _TEXT, "detail": _TEXT}),
            },
        }
    ),
}

_AMOUNTS: Final = {
    "events": 4,
    "byType": {"inventory.reserved": 1, "order.confirmed": 1, "order.created": 1, "order.paid": 1},
    "orders": 1,
    "units": 2,
    "cancelled": 0,
    "revenueMinor": {"USD": 19_998},
    "lowStockWarnings": 0,
    "outOfStock": 0,
}
_BUCKET: Final = {"start": "2026-11-21T09:00:00Z", **_AMOUNTS}
_RECENT: Final = {
    "eventId": "0192f5c7-3c15-7d60-b6f1-2a9c04e8b713",
    "eventType": "product.created",
    "timestamp": "2026-11-21T09:30:00.000000Z",
    "sellerId": "seller1",
    "subject": "0192f5c1-7a10-7c3e-9a57-3f1b6f0d2a11",
    "data": {
        "specversion": "1.0",
        "id": "0192f5c7-3c15-7d60-b6f1-2a9c04e8b713",
        "source": "/shopstream/api",
        "type": "product.created",
        "subject": "0192f5c1-7a10-7c3e-9a57-3f1b6f0d2a11",
        "time": "2026-11-21T09:30:00.000000Z",
        "sellerid": "seller1",
        "sequence": "1",
        "data": {"name": "Mechanical keyboard", "price": 99.99, "stock": 10, "version": 1},
    },
}


def _page_of(row: object, cursor: str) -> dict[str, object]:
    return {"data": [row], "hasMore": True, "nextCursor": cursor, "prevCursor": None}


#: By the schema's name.
EXAMPLES: Final[Mapping[str, object]] = {
    "Series": {"granularity": "hour", "buckets": [_BUCKET], "totals": _AMOUNTS},
    "Bucket": _BUCKET,
    "Totals": _AMOUNTS,
    "RecentEvent": _RECENT,
    "RecentEventPage": _page_of(_RECENT, "WyIyMDI2LTExLTIxVDA5OjMwOjAwLjAwMDAwMFoiXQ"),
    "Problem": {
        "type": "/problems/validation_failed",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "from: is later than to",
        "instance": "/aggregates/event-types",
        "code": "validation_failed",
        "requestId": "0192f5c6-55d0-7e19-8c2f-6b7a90e3d155",
        "errors": [{"pointer": "/from", "code": "invalid", "detail": "is later than to"}],
    },
}
#: What a file holds, by form; empty where it is no text.
FILES: Final[Mapping[Form, str]] = {
    "csv": "start,events,orders,units\r\n2026-11-21T09:00:00Z,4,1,2\r\n",
    "parquet": "",
}
