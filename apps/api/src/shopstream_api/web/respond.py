"""Commands to responses: one transaction, one answer, with or without an idempotency key."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import quote
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from shopstream_api.db.transaction import Database, Transaction
from shopstream_api.errors import NotFound, ShopError, ValidationFailed
from shopstream_api.idempotency import service as idempotency
from shopstream_api.idempotency.errors import KeyRequired
from shopstream_api.idempotency.repository import Answer
from shopstream_api.idempotency.service import Key
from shopstream_api.members import SELLER_ID
from shopstream_api.principal import Principal, RequestContext
from shopstream_api.web.problems import JSON_ENCODER, problem

Work = Callable[[Transaction], Awaitable[Answer]]
JSON_HEADERS = {"content-type": "application/json"}
NO_CONTENT: Final = Answer(204, {}, b"")

#: What stands in a path as it is (RFC 3986), beside letters, digits and - . _ ~.
_PATH_SAFE: Final = "/:@!$&'()*+,;="
#: Statuses that have no body, and so no length of one.
_BODILESS: Final = (204, 304)


def context_of(request: Request) -> RequestContext:
    """The ids that the middleware gave this request."""
    context: RequestContext = request.scope["state"]["context"]
    return context


def address_of(scope: Scope) -> str:
    """The path as a URI writes it.

    Not of ``request.url``, which is put together from host and query too: a query that is no UTF-8
    would make every refusal a fault of ours.
    """
    return quote(scope["path"], safe=_PATH_SAFE)


def principal_of(request: Request) -> Principal:
    """The caller, in open mode from X-Seller-Id. Raises ValidationFailed for a bad one."""
    seller = request.headers.get("x-seller-id")
    if seller is not None and not SELLER_ID.fullmatch(seller):
        raise ValidationFailed.of("X-Seller-Id", "invalid", "must be 1-64 of A-Z a-z 0-9 . _ : -")
    return Principal(seller)


def refusal_of(request: Request, error: ShopError) -> Answer:
    """The error as this request's answer."""
    context = context_of(request)
    return problem(error, instance=address_of(request.scope), request_id=context.request_id)


def path_id(request: Request, what: str, name: str = "id") -> UUID:
    """An id of the path. Raises NotFound for anything that cannot be an id of ours."""
    text = request.path_params[name]
    try:
        found = UUID(text)
    except ValueError:
        found = None
    # One spelling only: a thing has one address.
    if found is None or str(found) != text:
        raise NotFound(f"There is no such {what}.")
    return found


def json_answer(
    status: int, body: bytes | object, headers: Mapping[str, str] | None = None
) -> Answer:
    """An answer from encoded bytes, or from a value to encode."""
    encoded = body if isinstance(body, bytes) else JSON_ENCODER.encode(body)
    return Answer(status, {**JSON_HEADERS, **(headers or {})}, encoded)


async def execute(
    request: Request,
    database: Database,
    work: Work,
    *,
    body: object = None,
    keyed: bool = False,
    key_required: bool = False,
    caller: str | None = None,
) -> Response:
    """Run a command in its transaction and answer it.

    ``keyed``: the route honours Idempotency-Key, of ``caller`` or else of the principal.
    """
    context = context_of(request)
    key = _key(request, body, caller, required=key_required) if keyed or key_required else None
    if key is None:
        return response_of(await database.run(context, work))

    answer, replayed = await database.run(
        context,
        lambda tx: idempotency.answer(tx, key, work, lambda error: refusal_of(request, error)),
    )
    response = response_of(answer)
    if replayed:
        response.headers["idempotent-replayed"] = "true"
    return response


def required_key(request: Request, body: object = None) -> Key:
    """The request's Idempotency-Key. Raises KeyRequired, KeyInvalid."""
    key = _key(request, body, None, required=True)
    assert key is not None  # noqa: S101 - or it was raised
    return key


def _key(request: Request, body: object, caller: str | None, *, required: bool) -> Key | None:
    sent = request.headers.get("idempotency-key")
    if sent is None:
        if required:
            raise KeyRequired(
                "The header Idempotency-Key is missing: send a new value for each thing to be "
                "done, and the same when you repeat the request."
            )
        return None
    return Key.of(
        sent,
        caller=caller or principal_of(request).seller_id or "",
        method=request.method,
        path=request.scope["path"].removeprefix("/api/v1"),
        body=body,
    )


class _Answered(Response):
    """An answer whose headers are known: the framework's own way to them costs twice as much."""

    def __init__(self, answer: Answer) -> None:
        self.status_code = answer.status
        self.body = answer.body
        self.background = None
        self.raw_headers = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in answer.headers.items()
        ]
        if answer.status not in _BODILESS:
            self.raw_headers.append((b"content-length", str(len(answer.body)).encode()))


def response_of(answer: Answer) -> Response:
    """The answer on the wire."""
    return _Answered(answer)


def shown(answer: Answer, position: str | None) -> Response:
    """A read's response with the snapshot's place in the stream (protocol rule 29)."""
    response = response_of(answer)
    if position is not None:
        response.headers["x-stream-position"] = position
    return response
