"""JSON Schemas of the request bodies: closed, so that a misspelt member is told.

The bounds are the readers' own constants, so that description and rule cannot drift.
"""

from typing import Any, Final

from shopstream_api.bulk.schemas import ITEMS_MAX
from shopstream_api.catalog.schemas import (
    CATEGORY_LENGTH_MAX,
    DESCRIPTION_LENGTH_MAX,
    NAME_LENGTH_MAX,
    SKU_LENGTH_MAX,
    STATUSES,
    STOCK_MAX,
    STORED_STOCK_MAX,
    TAG_LENGTH_MAX,
    TAGS_MAX,
)
from shopstream_api.members import SELLER_ID
from shopstream_api.money import DEFAULT_CURRENCY, EXPONENTS, PRICE_MINOR_MAX
from shopstream_api.orders.schemas import (
    CUSTOMER_ID_LENGTH_MAX,
    LINES_MAX,
    QUANTITY_MAX,
    REFUND_REASON_LENGTH_MAX,
    TOTAL_MINOR_MAX,
)
from shopstream_api.stock.schemas import (
    REASON_LENGTH_MAX,
    REFERENCE_LENGTH_MAX,
    RESERVED_QUANTITY_MAX,
)
from shopstream_api.web.answer_schemas import ANSWERS

Schema = dict[str, Any]

_LINE: Final = r"^[^\x00\r\n]*$"
_FILLED_LINE: Final = r"^[^\x00\r\n]*[^\s\x00][^\x00\r\n]*$"
_LINES: Final = r"^[^\x00]*$"


def _text(length_max: int, pattern: str = _LINE, *, nullable: bool = False) -> Schema:
    return {
        "type": ["string", "null"] if nullable else "string",
        "maxLength": length_max,
        "pattern": pattern,
    }


def _whole(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _object(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_STOCK: Final = _whole(0, STOCK_MAX)
_DETAILS: Final[dict[str, Schema]] = {
    "name": {
        **_text(NAME_LENGTH_MAX, _FILLED_LINE),
        "description": "Counted without the space around it, stored with it.",
    },
    "description": _text(DESCRIPTION_LENGTH_MAX, _LINES, nullable=True),
    "sku": {
        **_text(SKU_LENGTH_MAX, nullable=True),
        "description": "Unique among one seller's products.",
    },
    "category": _text(CATEGORY_LENGTH_MAX, nullable=True),
    "tags": {"type": "array", "maxItems": TAGS_MAX, "items": _text(TAG_LENGTH_MAX)},
    "price": {
        "type": "number",
        "minimum": 0,
        "maximum": PRICE_MINOR_MAX,
        "description": (
            "Major units, read as a decimal: no more digits than the currency has, "
            f"and at most {PRICE_MINOR_MAX} in its minor units."
        ),
    },
    "currency": {
        "type": "string",
        "enum": sorted(EXPONENTS),
        "description": f"ISO 4217; {DEFAULT_CURRENCY} when absent.",
    },
    "status": {"type": "string", "enum": list(STATUSES)},
}
_SELLER: Final[Schema] = {"type": "string", "pattern": f"^{SELLER_ID.pattern}$"}

SCHEMAS: Final[dict[str, Schema]] = {
    **ANSWERS,
    "NewProduct": _object(
        ("name", "price"),
        **_DETAILS,
        stock=_STOCK,
        sellerId={**_SELLER, "description": "Required, here or as X-Seller-Id."},
    ),
    "ProductReplacement": _object(
        ("name", "price"),
        **_DETAILS,
        stock={**_STOCK, "description": "The present one, if it is sent at all."},
        sellerId={**_SELLER, "description": "The present one, if it is sent at all."},
    ),
    "ProductPatch": _object(
        **_DETAILS, sellerId={**_SELLER, "description": "The present one, if it is sent at all."}
    ),
    "ImportFile": {"type": "string", "description": "NDJSON or CSV; see the operation."},
    "BulkProducts": _object(
        ("items",),
        items={
            "type": "array",
            "minItems": 1,
            "maxItems": ITEMS_MAX,
            # Whatever a row is, it is answered in its place.
            "items": {"anyOf": [{"$ref": "#/components/schemas/NewProduct"}, {}]},
        },
        atomic={"type": "boolean", "default": False},
    ),
    "StockAdjustment": _object(
        ("delta", "reason"),
        delta={**_whole(-STOCK_MAX, STOCK_MAX), "not": {"const": 0}},
        reason=_text(REASON_LENGTH_MAX, _FILLED_LINE),
    ),
    "SetStock": _object(
        ("quantity", "expectedQuantity"),
        quantity=_STOCK,
        expectedQuantity=_whole(0, STORED_STOCK_MAX),
    ),
    "NewReservation": _object(
        ("quantity",),
        quantity=_whole(1, RESERVED_QUANTITY_MAX),
        reference=_text(REFERENCE_LENGTH_MAX, _FILLED_LINE, nullable=True),
    ),
    "NewOrder": _object(
        ("items",),
        customerId=_text(CUSTOMER_ID_LENGTH_MAX, nullable=True),
        items={
            "type": "array",
            "minItems": 1,
            "maxItems": LINES_MAX,
            "items": _object(
                ("productId", "quantity"),
                productId={"type": "string", "format": "uuid"},
                quantity=_whole(1, QUANTITY_MAX),
            ),
        },
    ),
    "Refund": _object(
        amountMinor=_whole(1, TOTAL_MINOR_MAX),
        reason=_text(REFUND_REASON_LENGTH_MAX, _FILLED_LINE),
    ),
    "Nothing": _object(),
}
