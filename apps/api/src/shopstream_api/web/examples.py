"""One shop's story, used wherever the description or a page shows an example."""

from collections.abc import Mapping
from typing import Any, Final

from shopstream_api.web.problems import Kind, body_of

_PRODUCT_ID: Final = "0192f5c1-7a10-7c3e-9a57-3f1b6f0d2a11"
_ORDER_ID: Final = "0192f5c4-02b7-7f4e-8d1c-5a9e2c7b4d22"
_CREATED: Final = "2026-11-21T09:30:00.000000Z"
_UPDATED: Final = "2026-11-21T09:31:07.250000Z"
_UNTIL: Final = "2026-11-21T09:46:07.250000Z"
_CURSOR: Final = "lMQI3q2-7_AAwtMAAlQ"

_DETAILS: Final[dict[str, Any]] = {
    "name": "Mechanical keyboard",
    "description": "87 keys.\nBrown switches.",
    "sku": "KB-87-BR",
    "category": "keyboards",
    "tags": ["tenkeyless", "usb-c"],
    "price": 99.99,
    "currency": "USD",
    "status": "active",
}
_PRODUCT: Final = {
    "id": _PRODUCT_ID,
    **_DETAILS,
    "priceMinor": 9_999,
    "stock": 8,
    "sellerId": "seller1",
    "version": 1,
    "inventoryVersion": 1,
    "createdAt": _CREATED,
    "updatedAt": _UPDATED,
}
_ORDER: Final = {
    "id": _ORDER_ID,
    "status": "pending",
    "customerId": "c1",
    "sellerId": "seller1",
    "items": [
        {
            "productId": _PRODUCT_ID,
            "name": "Mechanical keyboard",
            "quantity": 2,
            "unitPrice": 99.99,
            "unitPriceMinor": 9_999,
            "totalMinor": 19_998,
        }
    ],
    "subtotalMinor": 19_998,
    "taxMinor": 0,
    "shippingMinor": 0,
    "total": 199.98,
    "totalMinor": 19_998,
    "refundedMinor": 0,
    "currency": "USD",
    "reservedUntil": _UNTIL,
    "cancelReason": None,
    "version": 1,
    "createdAt": _UPDATED,
    "updatedAt": _UPDATED,
}
_LEVEL: Final = {
    "productId": _PRODUCT_ID,
    "stock": 3,
    "reserved": 2,
    "onHand": 5,
    "threshold": 5,
    "inventoryVersion": 4,
}
_MOVEMENT: Final = {
    "id": "0192f5c3-11aa-7b02-bb3e-08d1c55a7e33",
    "productId": _PRODUCT_ID,
    "delta": -2,
    "stock": 8,
    "reason": "damaged",
    "reference": None,
    "orderId": None,
    "createdAt": _UPDATED,
}
_AUDIT: Final = {
    "id": "0192f5c7-3c15-7d60-b6f1-2a9c04e8b713",
    "action": "order.refunded",
    "entityType": "order",
    "entityId": _ORDER["id"],
    "sellerId": "seller1",
    "requestId": "0192f5c6-55d0-7e19-8c2f-6b7a90e3d155",
    "at": _UPDATED,
}


_NO_PRICE: Final = {
    "type": "/problems/validation_failed",
    "title": "The request breaks a rule",
    "status": 422,
    "detail": "/items/1/price: is required",
    "instance": "/products/bulk",
    "code": "validation_failed",
    "requestId": "0192f5c6-55d0-7e19-8c2f-6b7a90e3d155",
    "errors": [{"pointer": "/items/1/price", "code": "required", "detail": "is required"}],
}


def _page(row: object) -> dict[str, object]:
    return {"data": [row], "hasMore": True, "nextCursor": _CURSOR, "prevCursor": None}


#: By the schema's name.
EXAMPLES: Final[dict[str, object]] = {
    "NewProduct": {**_DETAILS, "stock": 10, "sellerId": "seller1"},
    "ProductReplacement": _DETAILS,
    "ProductPatch": {"price": 89.99, "description": None},
    "Product": _PRODUCT,
    "ProductPage": _page(_PRODUCT),
    "BulkProducts": {
        "items": [{**_DETAILS, "stock": 10, "sellerId": "seller1"}, {"name": "No price"}],
        "atomic": False,
    },
    "BulkResults": {
        "results": [
            {"index": 0, "status": 201, "product": _PRODUCT},
            {"index": 1, "status": 422, "problem": _NO_PRICE},
        ]
    },
    "ImportFile": '{"sku":"KB-87-BR","name":"Mechanical keyboard","price":99.99,"stock":10}\n',
    "Import": {
        "id": "0192f5c7-0a3e-7c55-9f10-44d2b8e6a755",
        "status": "running",
        "rowsRead": 1_500,
        "rowsCreated": 1_420,
        "rowsUpdated": 60,
        "rowsUnchanged": 18,
        "rowsFailed": 2,
    },
    "ImportErrors": '{"row":17,"code":"validation_failed","detail":"/price: is required"}\n',
    "StockAdjustment": {"delta": -2, "reason": "damaged"},
    "SetStock": {"quantity": 9, "expectedQuantity": 7},
    "StockChange": {
        "productId": _PRODUCT_ID,
        "stock": 8,
        "delta": -2,
        "reason": "damaged",
        "inventoryVersion": 1,
    },
    "StockLevel": _LEVEL,
    "LowStock": {**_LEVEL, "name": "Mechanical keyboard", "sellerId": "seller1"},
    "LowStockPage": _page({**_LEVEL, "name": "Mechanical keyboard", "sellerId": "seller1"}),
    "Movement": _MOVEMENT,
    "MovementPage": _page(_MOVEMENT),
    "NewReservation": {"quantity": 2, "reference": "basket 17"},
    "Reservation": {
        "id": "0192f5c5-2d41-7a88-a0b6-93f4e1d07c44",
        "productId": _PRODUCT_ID,
        "quantity": 2,
        "reference": "basket 17",
        "reservedUntil": _UNTIL,
    },
    "NewOrder": {"customerId": "c1", "items": [{"productId": _PRODUCT_ID, "quantity": 2}]},
    "Order": _ORDER,
    "OrderPage": _page(_ORDER),
    "Refund": {"amountMinor": 500, "reason": "arrived scratched"},
    "AuditEntry": _AUDIT,
    "AuditEntryPage": _page(_AUDIT),
    "OrderHistory": {
        "data": [{"version": 1, "status": "pending", "reason": None, "at": _UPDATED}],
        "hasMore": False,
        "nextCursor": None,
        "prevCursor": None,
    },
    "Transitions": {"pending": ["confirmed", "cancelled"], "cancelled": []},
    "Nothing": {},
}


#: Of each problem: what its ``detail`` says, its faults, and the members of its own.
_PROBLEMS: Final[Mapping[str, Mapping[str, Any]]] = {
    "malformed_json": {"detail": "The body is not JSON: Expecting value: line 1 column 1 (char 0)"},
    "validation_failed": {
        "detail": "/price: is required; /colour: is not a member of this body",
        "errors": [
            ("/price", "required", "is required"),
            ("/colour", "unknown_member", "is not a member of this body"),
        ],
    },
    "unsupported_media_type": {"detail": "This route takes application/json in UTF-8."},
    "body_too_large": {"detail": "At most 1048576 bytes are read."},
    "not_found": {"detail": "There is no such product."},
    "method_not_allowed": {"detail": "The method is not allowed here."},
    "forbidden": {"detail": "The body names another seller than the caller."},
    "insufficient_stock": {
        "detail": f"Of product {_PRODUCT_ID} 5 were asked for, 3 are available.",
        "items": [{"productId": _PRODUCT_ID, "requested": 5, "available": 3}],
    },
    "illegal_transition": {
        "detail": "An order that is pending cannot become shipped.",
        "from": "pending",
        "to": "shipped",
        "allowed": ["confirmed", "cancelled"],
    },
    "mixed_sellers": {"detail": "All products of an order must be of one seller."},
    "mixed_currencies": {"detail": "All products of an order must be priced in one currency."},
    "product_not_available": {
        "detail": "A product of this order cannot be ordered.",
        "errors": [("/items/0/productId", "product_not_available", "cannot be ordered")],
    },
    "refund_too_large": {
        "detail": "Only 500 minor units are left to refund.",
        "errors": [("/amountMinor", "refund_too_large", "must be at most 500")],
    },
    "duplicate_sku": {"detail": "Another product of this seller has this sku."},
    "empty_file": {"detail": "The body is empty."},
    "malformed_csv": {"detail": "The row is not CSV: unexpected end of data"},
    "upload_incomplete": {"detail": "The upload took too long."},
    "rows_refused": {
        "detail": (
            "Nothing was written: /items/1/sku: Another product of this seller has this sku."
        ),
        "errors": [
            ("/items/1/sku", "duplicate_sku", "Another product of this seller has this sku.")
        ],
    },
    "version_mismatch": {"detail": "The resource is at version 4 now."},
    "version_required": {"detail": "A PUT must say which version it replaces."},
    "idempotency_key_required": {
        "detail": (
            "The header Idempotency-Key is missing: send a new value for each thing to be done, "
            "and the same when you repeat the request."
        )
    },
    "idempotency_key_invalid": {
        "detail": "An Idempotency-Key is 1 to 255 printable ASCII characters."
    },
    "idempotency_key_reused": {"detail": "This Idempotency-Key came with another body before."},
    "idempotency_key_in_flight": {
        "detail": "A request with this Idempotency-Key is still being worked on."
    },
    "invalid_cursor": {"detail": "The cursor belongs to a list with other filters."},
    "rate_limited": {"detail": "More than 600 requests a minute."},
    "unavailable": {"detail": "The database is away or too busy."},
    "deadline_exceeded": {"detail": "The request took longer than 10 seconds."},
    "internal_error": {"detail": "Something went wrong here; it was logged."},
}


def problem_example(kind: Kind) -> dict[str, object]:
    """A whole problem of this kind."""
    given = dict(_PROBLEMS[kind.code])
    faults = [
        {"pointer": pointer, "code": code, "detail": detail}
        for pointer, code, detail in given.pop("errors", ())
    ]
    return body_of(
        kind,
        detail=given.pop("detail"),
        instance="/orders" if kind.code.startswith(("mixed", "product_not")) else "/products",
        request_id="0192f5c6-55d0-7e19-8c2f-6b7a90e3d155",
        faults=faults,
        extra=given,
    )
