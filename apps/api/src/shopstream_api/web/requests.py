"""What a request may carry, as OpenAPI describes it, from a route's row."""

from typing import Any, Final

from shopstream_api.catalog.schemas import STATUSES
from shopstream_api.catalog.search import WORDS_MAX
from shopstream_api.idempotency.service import KEY_LENGTH_MAX
from shopstream_api.members import SELLER_ID
from shopstream_api.orders.transitions import TRANSITIONS
from shopstream_api.paging import LIMIT_DEFAULT, LIMIT_MAX
from shopstream_api.web.operations import Operation
from shopstream_api.web.query import NUMBER_MAX, TEXT_LENGTH_MAX

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string", "maxLength": TEXT_LENGTH_MAX, "pattern": r"^[^\x00]*$"}
_NUMBER: Final[Schema] = {"type": "number", "minimum": -NUMBER_MAX, "maximum": NUMBER_MAX}
_SEARCHED: Final = (
    f"At most {WORDS_MAX} words. Each must be found in name, SKU, tags, category or description: "
    "whole, as the beginning of a word or, where nothing begins so, mistyped. Best matches first, "
    "in place of the newest."
)
_QUERY: Final[dict[str, tuple[Schema, str]]] = {
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
        "Rows of a page, at most.",
    ),
    "cursor": (
        {"type": "string", "format": "cursor"},
        "nextCursor or prevCursor of a page of the same list with the same filters.",
    ),
    "sellerId": (_TEXT, "Exactly this seller."),
    "customerId": (_TEXT, "Exactly this customer."),
    "category": (_TEXT, "Exactly this category."),
    "q": (
        _TEXT,
        _SEARCHED,
    ),
    "priceMin": (_NUMBER, "At least, in major units."),
    "priceMax": (_NUMBER, "At most, in major units."),
    "updatedSince": (
        {"type": "string", "format": "date-time"},
        "Changed at or after this moment.",
    ),
}
_STATUS: Final = {"/products": list(STATUSES), "/orders": list(TRANSITIONS)}


def _header(name: str, description: str, **schema: object) -> Schema:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
    }


_KEY: Final[Schema] = {"minLength": 1, "maxLength": KEY_LENGTH_MAX, "pattern": "^[ -~]+$"}
#: Components, by the name under which `request_of` refers to them.
HEADER_PARAMETERS: Final[dict[str, Schema]] = {
    "RequestId": _header(
        "X-Request-Id",
        "Names this request in the answer, the log and the audit trail; given when absent, "
        "empty, above 200 characters or not printable ASCII.",
    ),
    "CorrelationId": _header(
        "X-Correlation-Id",
        "Travels with every event this request causes; the request's id when absent.",
    ),
    "TraceParent": _header(
        "traceparent", "W3C trace context; its trace id travels with every event."
    ),
    "SellerId": _header(
        "X-Seller-Id",
        "The seller who asks. Another seller's thing is then 404, another seller in a body 403; "
        "absent, the caller may act for any seller.",
        pattern=f"^{SELLER_ID.pattern}$",
    ),
    "IfMatch": _header(
        "If-Match", "The ETag that was read; what follows its dot is not compared. * is any."
    ),
    "IfNoneMatch": _header("If-None-Match", "The ETag that is held; the same one is 304."),
    "IdempotencyKey": _header(
        "Idempotency-Key",
        "The same key with the same body has one effect and one answer for 24 hours.",
        **_KEY,
    ),
    "IdempotencyKeyRequired": {
        **_header(
            "Idempotency-Key",
            "Required. The same key with the same body has one effect and one answer for 24 hours.",
            **_KEY,
        ),
        "required": True,
    },
}
_EVERYWHERE: Final = ("RequestId", "CorrelationId", "TraceParent")
_CONDITIONS: Final = {"If-Match": "IfMatch", "If-None-Match": "IfNoneMatch"}
_KEYS: Final = {
    "none": (),
    "optional": ("IdempotencyKey",),
    "required": ("IdempotencyKeyRequired",),
}


def request_of(operation: Operation) -> Schema:
    """Parameters and body of the operation."""
    headers = [
        *(("SellerId",) if operation.for_seller else ()),
        *((_CONDITIONS[operation.condition],) if operation.condition is not None else ()),
        *_KEYS[operation.key],
        *_EVERYWHERE,
    ]
    made: Schema = {
        "parameters": [
            *_path(operation),
            *(_query(operation, name) for name in operation.query),
            *({"$ref": f"#/components/parameters/{name}"} for name in headers),
        ],
        "x-follows": list(operation.follows),
    }
    if operation.body is not None:
        schema = {"$ref": f"#/components/schemas/{operation.body}"}
        made["requestBody"] = {
            "required": not operation.body_optional,
            "content": {media_type: {"schema": schema} for media_type in operation.body_types},
        }
    return made


def _path(operation: Operation) -> list[Schema]:
    if "{id}" not in operation.path:
        return []
    schema = {"type": "string", "format": "uuid"}
    return [{"name": "id", "in": "path", "required": True, "schema": schema}]


def _query(operation: Operation, name: str) -> Schema:
    if name == "status":
        schema: Schema = {"type": "string", "enum": _STATUS[operation.path]}
        description = "Exactly this status."
    else:
        schema, description = _QUERY[name]
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": schema,
    }
