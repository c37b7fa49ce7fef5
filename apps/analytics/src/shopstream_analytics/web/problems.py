"""Errors of the read API as problem details (RFC 9457), in the contract's one shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shopstream_analytics.recent_reader import BadCursor
from shopstream_analytics.sink import SinkUnavailable
from shopstream_shared.clock import Uuid7Source
from shopstream_shared.logs import get_logger

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2
REQUEST_ID_CHARACTERS_MAX: Final = 200

log = get_logger(__name__)


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
    """Render every error of the app as a problem."""

    async def invalid(request: Request, error: Exception) -> Response:
        faults = error.faults if isinstance(error, InvalidRequest) else ()
        return _problem(request, 422, "validation_failed", str(error), faults)

    async def cursor(request: Request, error: Exception) -> Response:
        return _problem(request, 400, "invalid_cursor", str(error))

    async def unavailable(request: Request, error: Exception) -> Response:
        log.warning("read failed", detail=str(error))
        response = _problem(request, 503, "unavailable", str(error))
        response.headers["retry-after"] = str(RETRY_AFTER_SECONDS)
        return response

    async def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = {404: "not_found", 405: "method_not_allowed"}.get(status, "request_failed")
        response = _problem(request, status, code, HTTPStatus(status).phrase)
        if isinstance(error, HTTPException):
            response.headers.update(error.headers or {})
        return response

    async def fault(request: Request, error: Exception) -> Response:
        log.error("unexpected", error=type(error).__name__, exc_info=error)
        return _problem(request, 500, "internal_error", "Something went wrong here")

    app.add_exception_handler(InvalidRequest, invalid)
    app.add_exception_handler(BadCursor, cursor)
    app.add_exception_handler(SinkUnavailable, unavailable)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, fault)


def _problem(
    request: Request, status: int, code: str, detail: str, faults: Sequence[Fault] = ()
) -> Response:
    given = request.headers.get("x-request-id", "")
    usable = 0 < len(given) <= REQUEST_ID_CHARACTERS_MAX and given.isprintable()
    request_id = given if usable and given.isascii() else Uuid7Source().new_id()
    return JSONResponse(
        {
            "type": f"/problems/{code}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "instance": request.url.path,
            "code": code,
            "requestId": request_id,
            "errors": [
                {"pointer": f"/{fault.name}", "code": "invalid", "detail": fault.detail}
                for fault in faults
            ],
        },
        status,
        media_type=CONTENT_TYPE,
        headers={"x-request-id": request_id},
    )
