"""A route and what its description says, in one row; what follows from the row is derived."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from shopstream_api.errors import (
    InvalidCursor,
    NotFound,
    ShopError,
    Unavailable,
    ValidationFailed,
    VersionMismatch,
)
from shopstream_api.idempotency.errors import KeyInFlight, KeyInvalid, KeyRequired, KeyReused
from shopstream_api.web.body import JSON
from shopstream_api.web.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    MalformedJson,
    RateLimited,
    UnsupportedMediaType,
)

Schema = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]

PAGED: Final = ("limit", "cursor")
#: The reads that tell their place in the stream (protocol rule 29): of products and of orders.
_POSITIONED: Final = ("/products", "/orders", "/inventory")


@dataclass(frozen=True, slots=True)
class Operation:
    """One route and what its description says."""

    method: str
    path: str
    handler: Handler
    name: str
    summary: str
    #: Names of schemas, of SCHEMAS or of the event contract.
    body: str | None = None
    answer: str | None = None
    status: int = 200
    key: Literal["none", "optional", "required"] = "none"
    query: Sequence[str] = ()
    #: Whether the request may be conditional, and by which header.
    condition: str | None = None
    #: What the domain refuses here, beside what `errors_of` derives.
    errors: Sequence[type[ShopError]] = ()
    #: Whether X-Seller-Id is read; None: it is on writes.
    seller: bool | None = None
    body_types: Sequence[str] = (JSON,)
    #: Whether the body may be left out.
    body_optional: bool = False
    answer_type: str = JSON
    #: More than the summary says, in Markdown.
    description: str = ""
    #: Operations that the id of this answer leads to, beside those that are derived.
    follows: Sequence[str] = ()
    #: OpenAPI link objects by the operation they lead to.
    links: Mapping[str, Schema] = field(default_factory=dict)

    @property
    def for_seller(self) -> bool:
        return self.method != "GET" if self.seller is None else self.seller

    @property
    def creates(self) -> bool:
        """Whether the answer names a new resource of its own, and where it is."""
        return self.status in (201, 202) and "{" not in self.path

    @property
    def tagged(self) -> bool:
        """Whether the answer carries the version it shows."""
        return self.answer in ("Product", "Order")

    @property
    def positioned(self) -> bool:
        return self.method == "GET" and self.path.startswith(_POSITIONED)


def errors_of(operation: Operation) -> tuple[type[ShopError], ...]:
    """Every error this route can give, but a fault of ours."""
    found: dict[type[ShopError], None] = dict.fromkeys(operation.errors)
    if operation.body is not None:
        found |= dict.fromkeys((BodyTooLarge, UnsupportedMediaType, ValidationFailed))
        if JSON in operation.body_types:
            found[MalformedJson] = None
    if operation.key != "none":
        found |= dict.fromkeys((KeyInvalid, KeyReused, KeyInFlight))
        if operation.key == "required":
            found[KeyRequired] = None
    if operation.query or operation.for_seller:
        found[ValidationFailed] = None
    if "cursor" in operation.query:
        found[InvalidCursor] = None
    if "{" in operation.path:
        found[NotFound] = None
    if operation.condition == "If-Match":
        found[VersionMismatch] = None
    found |= dict.fromkeys((RateLimited, Unavailable, DeadlineExceeded))
    return tuple(found)
