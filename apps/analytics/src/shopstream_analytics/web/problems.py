"""Errors as problem details (RFC 9457), in the contract's one shape."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from shopstream_analytics.aggregates.reader import (
    BUCKETS_MAX,
    PRODUCTS_MAX,
    TooManyBuckets,
    TooManyProducts,
)
from shopstream_analytics.cursors import BadCursor
from shopstream_analytics.recent_reader import FiltersTooSparse
from shopstream_analytics.sink import SinkUnavailable, StoreRefused
from shopstream_shared.clock import Uuid7Source
from shopstream_shared.logs import get_logger

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2
REQUEST_ID_CHARACTERS_MAX: Final = 200
AWAY: Final = "What this is read from does not answer now"
REFUSED: Final = "What this is read from refuses the question, and would again"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a code means; ``help`` is what to do about it."""

    code: str
    status: int
    help: str


KINDS: Final[Mapping[str, Kind]] = {
    kind.code: kind
    for kind in (
        Kind("validation_failed", 422, "Mend the parameters that `errors` names."),
        Kind("range_too_large", 422, "Give `from` and `to` closer together, or ask for days."),
        Kind("too_many_products", 422, "Ask the archive: `shopstream archive sql`."),
        Kind("filters_too_sparse", 422, "Give fewer filters, and pick from what comes."),
        Kind("invalid_cursor", 400, "Take `nextCursor` of the page before, with its parameters."),
        Kind("unauthenticated", 401, "Send the operator's token as `Authorization: Bearer …`."),
        Kind("forbidden", 403, "Call it from a page of this site, or with the operator's token."),
        Kind("still_unreadable", 409, "Deploy a version that can read the record, then replay."),
        Kind("not_settled", 409, "Wait until the aggregates have passed the record, then replay."),
        Kind("already_counted", 409, "Nothing is to be done: the worker counted the event itself."),
        Kind("made_by_rebuild", 409, "Make the aggregates anew: `shopstream archive rebuild`."),
        Kind("not_found", 404, "See the addresses under /docs."),
        Kind("method_not_allowed", 405, "Use a method that the header Allow names."),
        Kind("unavailable", 503, "Try again after the seconds that Retry-After names."),
        Kind(
            "store_refused",
            503,
            "Do not repeat it: what this is read from refuses the question. Look for the "
            "request's id in the service's log, and at /health, and report it.",
        ),
        Kind("internal_error", 500, "Look for the request's id in the service's log."),
        Kind("request_failed", 400, "Mend the request."),
    )
}


class Problem(Exception):
    """A refusal by its code; headers by name, an underscore for each hyphen."""

    def __init__(self, code: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.kind = KINDS[code]
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong parameter."""

    name: str
    detail: str


class InvalidRequest(Exception):
    """Parameters that break a rule."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.name}: {fault.detail}" for fault in faults))
        self.faults = faults


def install(app: FastAPI) -> None:
    """Render every error of the app as a problem, and serve the pages that their types name."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - its only handler
        return _problem(request, error.kind.code, str(error), headers=error.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        faults = error.faults if isinstance(error, InvalidRequest) else ()
        return _problem(request, "validation_failed", str(error), faults)

    async def too_large(request: Request, error: Exception) -> Response:
        detail = (
            f"More than {BUCKETS_MAX} buckets lie in this range: give from and to closer together, "
            "or granularity=day"
        )
        return _problem(request, "range_too_large", detail, [Fault("from", "is too far from to")])

    async def products(request: Request, error: Exception) -> Response:
        detail = f"More than {PRODUCTS_MAX} products were sold that day: too many to be ranked here"
        return _problem(request, "too_many_products", detail)

    async def unavailable(request: Request, error: Exception) -> Response:
        # The store's words, and which variables to put right, are for who reads the log.
        log.warning("read failed", detail=str(error))
        again = {"retry-after": str(RETRY_AFTER_SECONDS)}
        return _problem(request, "unavailable", AWAY, headers=again)

    async def never(request: Request, error: Exception) -> Response:
        # Its words, too, are for the log; a fault of ours, so that it must not pass unseen.
        log.error("read refused", detail=str(error))
        return _problem(request, "store_refused", REFUSED)

    async def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = {404: "not_found", 405: "method_not_allowed"}.get(status, "request_failed")
        headers = (error.headers if isinstance(error, HTTPException) else None) or {}
        return _problem(request, code, HTTPStatus(status).phrase, status=status, headers=headers)

    async def fault(request: Request, error: Exception) -> Response:
        log.error("unexpected", error=type(error).__name__, exc_info=error)
        return _problem(request, "internal_error", "Something went wrong here")

    app.add_exception_handler(Problem, refused)
    app.add_exception_handler(InvalidRequest, invalid)
    app.add_exception_handler(TooManyBuckets, too_large)
    app.add_exception_handler(TooManyProducts, products)
    app.add_exception_handler(FiltersTooSparse, _in_its_words("filters_too_sparse"))
    app.add_exception_handler(BadCursor, _in_its_words("invalid_cursor"))
    app.add_exception_handler(SinkUnavailable, unavailable)
    app.add_exception_handler(StoreRefused, never)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, fault)
    app.router.routes.append(Route("/problems/{code}", _page, methods=["GET"]))


def _in_its_words(code: str) -> Callable[[Request, Exception], Awaitable[Response]]:
    """What an error says of itself is for the caller."""

    async def told(request: Request, error: Exception) -> Response:
        return _problem(request, code, str(error))

    return told


async def _page(request: Request) -> Response:
    kind = KINDS.get(request.path_params["code"])
    if kind is None:
        raise HTTPException(404)
    return PlainTextResponse(f"{kind.code} ({kind.status})\n\n{kind.help}\n")


def body_of(
    kind: Kind,
    *,
    detail: str,
    instance: str,
    request_id: str,
    faults: Sequence[Fault] = (),
    status: int | None = None,
) -> dict[str, Any]:
    """The document, as the contract spells it."""
    status = kind.status if status is None else status
    return {
        "type": f"/problems/{kind.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
        "code": kind.code,
        "requestId": request_id,
        "errors": [
            {"pointer": f"/{fault.name}", "code": "invalid", "detail": fault.detail}
            for fault in faults
        ],
    }


def _problem(
    request: Request,
    code: str,
    detail: str,
    faults: Sequence[Fault] = (),
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    given = request.headers.get("x-request-id", "")
    usable = 0 < len(given) <= REQUEST_ID_CHARACTERS_MAX and given.isprintable()
    request_id = given if usable and given.isascii() else Uuid7Source().new_id()
    body = body_of(
        KINDS[code],
        detail=detail,
        instance=request.url.path,
        request_id=request_id,
        faults=faults,
        status=status,
    )
    return JSONResponse(
        body,
        body["status"],
        media_type=CONTENT_TYPE,
        headers={**(headers or {}), "x-request-id": request_id},
    )
