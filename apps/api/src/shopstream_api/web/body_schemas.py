"""JSON Schemas of the request bodies and of answers that are no event's data.

The bounds are the readers' own constants, so that description and rule cannot drift.
"""

from typing import Any, Final

from shopstream_api.catalog.schemas import (
    CATEGORY_LENGTH_MAX,
    DESCRIPTION_LENGTH_MAX,
    NAME_LENGTH_MAX,
    SKU_LENGTH_MAX,
    STATUSES,
    STOCK_MAX,
    TAG_LENGTH_MAX,
    TAGS_MAX,
)
from shopstream_api.members import SELLER_ID
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

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NULLABLE: Final[Schema] = {"type": ["string", "null"]}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_PRODUCT: Final[Any] = {
    "name": {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH_MAX},
    "description": {**_NULLABLE, "maxLength": DESCRIPTION_LENGTH_MAX},
    "sku": {**_NULLABLE, "maxLength": SKU_LENGTH_MAX},
    "category": {**_NULLABLE, "maxLength": CATEGORY_LENGTH_MAX},
    "tags": {
        "type": "array",
        "maxItems": TAGS_MAX,
        "items": {"type": "string", "maxLength": TAG_LENGTH_MAX},
    },
    "price": {"type": "number", "minimum": 0},
    "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
    "status": {"type": "string", "enum": list(STATUSES)},
    "sellerId": {"type": "string", "pattern": f"^{SELLER_ID.pattern}$"},
}
_STOCK: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": STOCK_MAX}
_LEVEL: Final[dict[str, Schema]] = {
    "productId": _TEXT,
    "stock": _COUNT,
    "reserved": _COUNT,
    "onHand": _COUNT,
    "threshold": _COUNT,
    "inventoryVersion": _COUNT,
}
_REFERENCE: Final[Schema] = {**_NULLABLE, "minLength": 1, "maxLength": REFERENCE_LENGTH_MAX}
_STEP: Final = _object(
    ("version", "status", "reason", "at"), version=_COUNT, status=_TEXT, reason=_NULLABLE, at=_TEXT
)

SCHEMAS: Final[dict[str, Schema]] = {
    "NewProduct": {
        **_object(("name", "price"), **_PRODUCT, stock=_STOCK),
        "examples": [{"name": "Test Product", "price": 99.99, "stock": 10, "sellerId": "seller1"}],
    },
    "ProductPatch": _object(**_PRODUCT),
    "StockAdjustment": _object(
        ("delta", "reason"),
        delta={"type": "integer", "minimum": -STOCK_MAX, "maximum": STOCK_MAX, "not": {"const": 0}},
        reason={"type": "string", "minLength": 1, "maxLength": REASON_LENGTH_MAX},
    ),
    "SetStock": _object(("quantity", "expectedQuantity"), quantity=_STOCK, expectedQuantity=_STOCK),
    "StockChange": _object(
        ("productId", "stock", "delta", "reason", "inventoryVersion"),
        productId=_TEXT,
        stock=_COUNT,
        delta={"type": "integer"},
        reason=_NULLABLE,
        inventoryVersion=_COUNT,
    ),
    "StockLevel": _object(tuple(_LEVEL), **_LEVEL),
    "LowStock": _object((*_LEVEL, "name", "sellerId"), **_LEVEL, name=_TEXT, sellerId=_TEXT),
    "NewReservation": {
        **_object(
            ("quantity",),
            quantity={"type": "integer", "minimum": 1, "maximum": RESERVED_QUANTITY_MAX},
            reference=_REFERENCE,
        ),
        "examples": [{"quantity": 2, "reference": "basket 17"}],
    },
    "Reservation": _object(
        ("id", "productId", "quantity", "reference", "reservedUntil"),
        id=_TEXT,
        productId=_TEXT,
        quantity=_COUNT,
        reference=_NULLABLE,
        reservedUntil=_TEXT,
    ),
    "Movement": _object(
        ("id", "productId", "delta", "stock", "reason", "reference", "orderId", "createdAt"),
        id=_TEXT,
        productId=_TEXT,
        delta={"type": "integer"},
        stock=_COUNT,
        reason=_NULLABLE,
        reference=_NULLABLE,
        orderId=_NULLABLE,
        createdAt=_TEXT,
    ),
    "NewOrder": _object(
        ("items",),
        customerId={**_NULLABLE, "maxLength": CUSTOMER_ID_LENGTH_MAX},
        items={
            "type": "array",
            "minItems": 1,
            "maxItems": LINES_MAX,
            "items": _object(
                ("productId", "quantity"),
                productId=_TEXT,
                quantity={"type": "integer", "minimum": 1, "maximum": QUANTITY_MAX},
            ),
        },
    ),
    "Refund": {
        **_object(
            amountMinor={"type": "integer", "minimum": 1, "maximum": TOTAL_MINOR_MAX},
            reason={"type": "string", "minLength": 1, "maxLength": REFUND_REASON_LENGTH_MAX},
        ),
        "examples": [{"amountMinor": 500, "reason": "arrived scratched"}],
    },
    "OrderHistory": _object(("data",), data={"type": "array", "items": _STEP}),
    "Transitions": {"type": "object", "additionalProperties": {"type": "array", "items": _TEXT}},
}
