"""JSON Schemas of answers that are no event's data. Open: members may be added inside a version."""

from typing import Any, Final

from shopstream_api.orders.transitions import TRANSITIONS

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NULLABLE: Final[Schema] = {"type": ["string", "null"]}
_ID: Final[Schema] = {"type": "string", "minLength": 1}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_VERSION: Final[Schema] = {"type": "integer", "minimum": 1}
_WHOLE: Final[Schema] = {"type": "integer"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_STATUS: Final[Schema] = {"type": "string", "enum": list(TRANSITIONS)}


def shown(**properties: Schema) -> Schema:
    """An object that always has all of these members."""
    return {"type": "object", "properties": properties, "required": list(properties)}


_LEVEL: Final[dict[str, Schema]] = {
    "productId": _ID,
    "stock": _COUNT,
    "reserved": _COUNT,
    "onHand": _COUNT,
    "threshold": _COUNT,
    "inventoryVersion": _COUNT,
}
_STEP: Final = shown(version=_VERSION, status=_STATUS, reason=_NULLABLE, at=_TIME)
_NONE: Final[Schema] = {"type": "null"}

#: What a problem has beside the members of RFC 9457 and ours, by its code.
_PROBLEM_EXTRAS: Final[dict[str, Schema]] = {
    "items": {
        "type": "array",
        "description": "insufficient_stock: the products that are short.",
        "items": shown(productId=_ID, requested=_WHOLE, available=_COUNT),
    },
    "from": {**_STATUS, "description": "illegal_transition: the order's status."},
    "to": {**_STATUS, "description": "illegal_transition: the status that was wanted."},
    "allowed": {
        "type": "array",
        "description": "illegal_transition: what the order can become.",
        "items": _STATUS,
    },
}
_ROW_DONE: Final = shown(
    index=_COUNT, status={"const": 201}, product={"$ref": "#/components/schemas/Product"}
)
_ROW_REFUSED: Final = shown(
    index=_COUNT,
    status={"enum": [403, 409, 422]},
    problem={"$ref": "#/components/schemas/Problem"},
)
_PROBLEM: Final = shown(
    type={"type": "string", "format": "uri-reference"},
    title=_TEXT,
    status={"type": "integer", "minimum": 400, "maximum": 599},
    detail=_TEXT,
    instance={"type": "string"},
    code={"type": "string", "pattern": "^[a-z_]+$"},
    requestId=_ID,
    errors={"type": "array", "items": shown(pointer=_TEXT, code=_TEXT, detail=_TEXT)},
)

ANSWERS: Final[dict[str, Schema]] = {
    "Import": shown(
        id=_ID,
        status={"type": "string", "enum": ["running", "done", "failed"]},
        rowsRead=_COUNT,
        rowsCreated=_COUNT,
        rowsUpdated=_COUNT,
        rowsUnchanged=_COUNT,
        rowsFailed=_COUNT,
    ),
    "ImportErrors": {
        "type": "string",
        "description": "A line for each row that failed: its number, a code, what is wrong.",
    },
    "BulkResults": shown(results={"type": "array", "items": {"oneOf": [_ROW_DONE, _ROW_REFUSED]}}),
    "StockChange": shown(
        productId=_ID, stock=_COUNT, delta=_WHOLE, reason=_NULLABLE, inventoryVersion=_COUNT
    ),
    "StockLevel": shown(**_LEVEL),
    "LowStock": shown(**_LEVEL, name=_TEXT, sellerId=_ID),
    "Reservation": shown(
        id=_ID, productId=_ID, quantity=_VERSION, reference=_NULLABLE, reservedUntil=_TIME
    ),
    "Movement": shown(
        id=_ID,
        productId=_ID,
        delta=_WHOLE,
        stock=_COUNT,
        reason=_NULLABLE,
        reference=_NULLABLE,
        orderId=_NULLABLE,
        createdAt=_TIME,
    ),
    "OrderHistory": shown(
        data={"type": "array", "items": _STEP},
        hasMore={"const": False},
        nextCursor=_NONE,
        prevCursor=_NONE,
    ),
    "AuditEntry": shown(
        id=_ID,
        action=_ID,
        entityType=_ID,
        entityId=_ID,
        sellerId=_ID,
        requestId=_ID,
        at=_TIME,
    ),
    "Transitions": {
        "type": "object",
        "additionalProperties": {"type": "array", "items": _STATUS},
    },
    "Problem": {**_PROBLEM, "properties": {**_PROBLEM["properties"], **_PROBLEM_EXTRAS}},
}
