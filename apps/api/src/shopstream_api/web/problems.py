"""Every error's HTTP form (RFC 9457): one table, one renderer, a page for each type.

The domain raises errors that know nothing of HTTP; this table gives each class its status, code
and title. A class that is not in the table is rendered as its nearest ancestor that is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from shopstream_api.bulk.errors import RowsRefused
from shopstream_api.catalog.errors import DuplicateSku
from shopstream_api.errors import (
    BusinessError,
    Forbidden,
    InvalidCursor,
    NotFound,
    ShopError,
    Unavailable,
    ValidationFailed,
    VersionMismatch,
    VersionRequired,
)
from shopstream_api.idempotency.errors import KeyInFlight, KeyInvalid, KeyRequired, KeyReused
from shopstream_api.idempotency.repository import Answer
from shopstream_api.imports.errors import EmptyFile, MalformedCsv, UploadIncomplete
from shopstream_api.orders.errors import (
    IllegalTransition,
    MixedCurrencies,
    MixedSellers,
    ProductNotAvailable,
    RefundTooLarge,
)
from shopstream_api.stock.errors import InsufficientStock
from shopstream_api.web.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    MalformedJson,
    MethodNotAllowed,
    RateLimited,
    UnsupportedMediaType,
)

CONTENT_TYPE: Final = "application/problem+json"
#: What a client that meets 503 or a key in flight should wait.
RETRY_AFTER_SECONDS: Final = 1
JSON_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of problem."""

    status: int
    code: str
    title: str
    help: str
    retry_after: bool = False


PROBLEMS: Final[Mapping[type[ShopError], Kind]] = {
    MalformedJson: Kind(
        400, "malformed_json", "The body is not JSON", "Send one JSON value in UTF-8."
    ),
    ValidationFailed: Kind(
        422, "validation_failed", "The request breaks a rule", "See errors for each fault."
    ),
    UnsupportedMediaType: Kind(
        415, "unsupported_media_type", "The media type is not taken here", "Send application/json."
    ),
    BodyTooLarge: Kind(413, "body_too_large", "The body is too large", "At most 1 MiB is read."),
    NotFound: Kind(
        404, "not_found", "There is no such thing", "It never was, is deleted, or is another's."
    ),
    MethodNotAllowed: Kind(
        405, "method_not_allowed", "The method is not allowed here", "See the Allow header."
    ),
    Forbidden: Kind(
        403, "forbidden", "Not allowed for this caller", "A seller writes for itself only."
    ),
    InsufficientStock: Kind(
        409, "insufficient_stock", "Not enough stock", "items says what was asked and what is left."
    ),
    IllegalTransition: Kind(
        409, "illegal_transition", "The order is not in a state for this", "See allowed."
    ),
    MixedSellers: Kind(
        422, "mixed_sellers", "Products of several sellers", "Place one order for each seller."
    ),
    MixedCurrencies: Kind(
        422, "mixed_currencies", "Prices in several currencies", "Place one order for each."
    ),
    ProductNotAvailable: Kind(
        422,
        "product_not_available",
        "A product cannot be ordered",
        "It is unknown, deleted or not active.",
    ),
    RefundTooLarge: Kind(
        422,
        "refund_too_large",
        "More than is left to refund",
        "totalMinor less refundedMinor of the order is what is left.",
    ),
    DuplicateSku: Kind(
        409, "duplicate_sku", "The sku is taken", "A sku is unique among one seller's products."
    ),
    EmptyFile: Kind(400, "empty_file", "The file is empty", "Send at least one row."),
    MalformedCsv: Kind(
        400,
        "malformed_csv",
        "The file is not CSV",
        "RFC 4180 in UTF-8: a header row, commas, quotes doubled inside quotes.",
    ),
    UploadIncomplete: Kind(
        408,
        "upload_incomplete",
        "The upload did not come whole",
        "Nothing of it was kept; send it again with the same Idempotency-Key.",
    ),
    RowsRefused: Kind(
        422, "rows_refused", "Some rows are refused", "See errors; nothing of the request was done."
    ),
    VersionMismatch: Kind(
        412, "version_mismatch", "The resource has changed", "Read it again, then decide anew."
    ),
    VersionRequired: Kind(
        428, "version_required", "A version is required", "Send If-Match with the ETag you read."
    ),
    KeyRequired: Kind(
        400,
        "idempotency_key_required",
        "An Idempotency-Key is required",
        "Send a fresh unique key with each new request, the same one with each retry.",
    ),
    KeyInvalid: Kind(
        400,
        "idempotency_key_invalid",
        "The Idempotency-Key cannot be used",
        "1 to 255 printable ASCII characters.",
    ),
    KeyReused: Kind(
        422,
        "idempotency_key_reused",
        "The Idempotency-Key came with another body",
        "Use a fresh key for a new request.",
    ),
    KeyInFlight: Kind(
        409,
        "idempotency_key_in_flight",
        "The same request is being worked on",
        "Ask again after Retry-After.",
        retry_after=True,
    ),
    InvalidCursor: Kind(
        400, "invalid_cursor", "The cursor cannot be used", "Start from the first page."
    ),
    Unavailable: Kind(
        503, "unavailable", "Not available now", "Try again after Retry-After.", retry_after=True
    ),
    DeadlineExceeded: Kind(
        503,
        "deadline_exceeded",
        "Not done in time",
        "Try again after Retry-After; with the same Idempotency-Key nothing is done twice.",
        retry_after=True,
    ),
    RateLimited: Kind(
        429,
        "rate_limited",
        "Too many requests",
        "Wait for Retry-After; RateLimit tells what is left.",
        retry_after=True,
    ),
    ShopError: Kind(500, "internal_error", "Something went wrong here", "It was logged."),
}
BY_CODE: Final = {kind.code: kind for kind in PROBLEMS.values()}


def kind_of(error: ShopError) -> Kind:
    """The nearest entry of the table."""
    return next(PROBLEMS[cls] for cls in type(error).__mro__ if cls in PROBLEMS)


def problem(error: ShopError, *, instance: str, request_id: str) -> Answer:
    """The error as an answer."""
    kind = kind_of(error)
    body = body_of(
        kind,
        detail=error.detail,
        instance=instance,
        request_id=request_id,
        faults=[
            {"pointer": fault.pointer, "code": fault.code, "detail": fault.detail}
            for fault in error.faults
        ],
        extra=error.extra,
    )
    headers = {"content-type": CONTENT_TYPE}
    if kind.retry_after:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    return Answer(kind.status, headers, JSON_ENCODER.encode(body))


def body_of(
    kind: Kind,
    *,
    detail: str,
    instance: str,
    request_id: str,
    faults: Sequence[Mapping[str, str]],
    extra: Mapping[str, object],
) -> dict[str, object]:
    """The members of a problem in their order; ``extra`` are those of its kind."""
    return {
        "type": f"/problems/{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": instance,
        "code": kind.code,
        "requestId": request_id,
        "errors": faults,
        **extra,
    }


__all__ = ["BY_CODE", "PROBLEMS", "BusinessError", "Kind", "body_of", "kind_of", "problem"]
