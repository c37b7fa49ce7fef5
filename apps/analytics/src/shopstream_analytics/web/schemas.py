"""The bodies of the answers as JSON Schemas, each with an example of one shop's story."""

from collections.abc import Mapping
from typing import Any, Final

from shopstream_analytics.aggregates.derived import TOP_BY
from shopstream_analytics.web.forms import Form
from shopstream_shared.events.registry import EVENT_TYPES

Schema = dict[str, Any]

_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TEXT: Final[Schema] = {"type": "string"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_NUMBER: Final[Schema] = {"type": ["number", "null"]}
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


def _by_name(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


def _series(description: str, members: Mapping[str, Schema]) -> Schema:
    """Buckets of these members, and their totals."""
    return _object(
        {
            "granularity": {"type": "string", "enum": ["hour", "day"]},
            "buckets": {"type": "array", "items": _object({"start": _TIME, **members})},
            "totals": _object(members),
        },
        description=description,
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
    "Funnel": _series("Orders that reached each state.", {"orders": _by_name(_COUNT)}),
    "OrderValues": _series(
        "What paid orders were worth, by currency.",
        {
            "currencies": _by_name(
                _object(
                    {
                        "paidOrders": _COUNT,
                        "paidMinor": {"type": "integer"},
                        "refundedMinor": {"type": "integer"},
                        "averageMinor": {"type": ["integer", "null"]},
                        "averageNetMinor": {"type": ["integer", "null"]},
                    }
                )
            )
        },
    ),
    "Timeliness": _series(
        "Events that came late, or were ahead of their time.",
        {"events": _COUNT, "lateEvents": _COUNT, "aheadEvents": _COUNT},
    ),
    "TopProducts": _object(
        {
            "day": {"type": "string", "format": "date"},
            "by": {"type": "string", "enum": list(TOP_BY)},
            "currency": {"type": ["string", "null"]},
            "products": {
                "type": "array",
                "items": _object(
                    {
                        "productId": _TEXT,
                        "orders": _COUNT,
                        "units": _COUNT,
                        "revenueMinor": _by_name({"type": "integer"}),
                    }
                ),
            },
        }
    ),
    "RecentEvent": _object(_EVENT),
    "RecentEventPage": _page("RecentEvent"),
    "Overview": _object(
        {
            "at": _TIME,
            "services": {
                "type": "array",
                "items": _object(
                    {
                        "name": _TEXT,
                        "status": {
                            "type": "string",
                            "enum": ["healthy", "unhealthy", "unreachable"],
                        },
                        "checks": {"type": "object", "description": "As its /health has them."},
                    }
                ),
            },
            "relay": _object(
                {
                    "lagRows": {**_NUMBER, "description": "Rows of the outbox, all shards."},
                    "lagSeconds": {**_NUMBER, "description": "The age of the oldest row."},
                    "poisonRows": {**_NUMBER, "description": "Rows that were set aside."},
                },
                description="As the API says; null when it does not answer.",
            ),
            "groups": {
                "type": "array",
                "items": _object(
                    {
                        "group": _TEXT,
                        "state": {"type": ["string", "null"]},
                        "lag": {
                            "type": ["integer", "null"],
                            "minimum": 0,
                            "description": "Offsets behind the stable end; null when not known.",
                        },
                        "freshSeconds": {
                            **_NUMBER,
                            "description": "When all there was had last been taken in.",
                        },
                    }
                ),
            },
        }
    ),
    "DeadLetter": _object(
        {
            "topic": _TEXT,
            "partition": _COUNT,
            "offset": _COUNT,
            "key": {"type": ["string", "null"]},
            "reason": {
                "type": "string",
                "enum": ["too_large", "malformed", "unknown_type", "invalid_data"],
            },
            "detail": _TEXT,
            "at": {**_TIME, "description": "When it was set aside."},
            "epoch": {
                "type": "integer",
                "minimum": 1,
                "description": "Which life of a topic that was made again; not there of the first.",
            },
        },
        required=["topic", "partition", "offset", "key", "reason", "detail", "at"],
    ),
    "DeadLetterPage": _page("DeadLetter"),
    "Replayed": _object(
        {
            "topic": _TEXT,
            "partition": _COUNT,
            "offset": _COUNT,
            "eventId": _TEXT,
            "eventType": _TEXT,
            "items": {
                **_COUNT,
                "description": "Aggregate items that took it in now; 0 when all had it already.",
            },
        }
    ),
    "VerifyReport": {
        "type": "object",
        "properties": {
            "at": _TIME,
            "seconds": {"type": "number"},
            "holds": {"type": "boolean"},
            "invariants": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["at", "holds", "invariants"],
    },
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


_LETTER: Final = {
    "topic": "shop.orders",
    "partition": 1,
    "offset": 41,
    "key": "0192f5c4-02b7-7f4e-8d1c-5a9e2c7b4d22",
    "reason": "unknown_type",
    "detail": "type 'order.gifted' is not known to this version",
    "at": "2026-11-21T09:30:01.000000Z",
}


def _series_of(members: Mapping[str, object]) -> dict[str, object]:
    bucket = {"start": "2026-11-21T09:00:00Z", **members}
    return {"granularity": "hour", "buckets": [bucket], "totals": dict(members)}


def _page_of(row: object, cursor: str) -> dict[str, object]:
    return {"data": [row], "hasMore": True, "nextCursor": cursor, "prevCursor": None}


#: By the schema's name.
EXAMPLES: Final[Mapping[str, object]] = {
    "Series": {"granularity": "hour", "buckets": [_BUCKET], "totals": _AMOUNTS},
    "Bucket": _BUCKET,
    "Totals": _AMOUNTS,
    "Funnel": _series_of({"orders": {"pending": 3, "paid": 2, "cancelled": 1}}),
    "OrderValues": _series_of(
        {
            "currencies": {
                "USD": {
                    "paidOrders": 2,
                    "paidMinor": 30_001,
                    "refundedMinor": 500,
                    "averageMinor": 15_001,
                    "averageNetMinor": 14_751,
                }
            }
        }
    ),
    "Timeliness": _series_of({"events": 4, "lateEvents": 1, "aheadEvents": 0}),
    "TopProducts": {
        "day": "2026-11-21",
        "by": "revenue",
        "currency": "USD",
        "products": [
            {
                "productId": "0192f5c1-7a10-7c3e-9a57-3f1b6f0d2a11",
                "orders": 1,
                "units": 2,
                "revenueMinor": {"USD": 19_998},
            }
        ],
    },
    "RecentEvent": _RECENT,
    "RecentEventPage": _page_of(_RECENT, "WyIyMDI2LTExLTIxVDA5OjMwOjAwLjAwMDAwMFoiXQ"),
    "Overview": {
        "at": "2026-11-21T09:31:07.250000Z",
        "services": [
            {
                "name": "api",
                "status": "healthy",
                "checks": {
                    "database": {"status": "healthy", "message": "ok", "responseTimeMs": 1.2}
                },
            },
            {"name": "notifications", "status": "unreachable", "checks": {}},
        ],
        "relay": {"lagRows": 0, "lagSeconds": 0, "poisonRows": 0},
        "groups": [
            {
                "group": "analytics-aggregates",
                "state": "running",
                "lag": 0,
                "freshSeconds": 0.4,
            }
        ],
    },
    "DeadLetter": _LETTER,
    "DeadLetterPage": _page_of(_LETTER, "eyIwIjoxMn0"),
    "Replayed": {
        "topic": "shop.orders",
        "partition": 1,
        "offset": 41,
        "eventId": "0192f5c7-3c15-7d60-b6f1-2a9c04e8b713",
        "eventType": "order.paid",
        "items": 7,
    },
    "VerifyReport": {
        "at": "2026-11-21T09:31:07.250000Z",
        "seconds": 12.5,
        "holds": True,
        "invariants": [
            {
                "number": 1,
                "title": "Every version is on the log once, in order",
                "status": "holds",
                "counted": {"events": 4200},
                "violations": {"lost": 0},
                "first": [],
                "unchecked": [],
            }
        ],
        "cut": [],
        "notes": [],
    },
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
