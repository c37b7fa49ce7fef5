"""How the routes are described in OpenAPI 3.1: one table row a route, schemas from the contract.

Handlers read bodies themselves, so nothing here takes part in serving a request.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import Response

from shopstream_api.paging import LIMIT_DEFAULT, LIMIT_MAX
from shopstream_shared.events.json_schema import payload_schemas

Schema = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]

_REF: Final = "#/components/schemas/{name}"
PAGED: Final = ("limit", "cursor")
_INTEGERS: Final = {
    "limit": {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}
}
_NUMBERS: Final = ("priceMin", "priceMax")


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


def routes(tag: str, operations: Sequence[Operation]) -> APIRouter:
    """A router of these operations."""
    router = APIRouter(tags=[tag])
    for operation in operations:
        router.add_api_route(
            operation.path,
            operation.handler,
            methods=[operation.method],
            operation_id=operation.name,
            summary=operation.summary,
            status_code=operation.status,
            response_class=Response,
            responses=_answers(operation),
            openapi_extra=_request(operation),
        )
        if operation.method == "GET":
            # RFC 9110: HEAD wherever GET is; the server leaves out the body.
            router.add_route(
                operation.path, operation.handler, methods=["HEAD"], include_in_schema=False
            )
    return router


def describe(app: FastAPI, schemas: Mapping[str, Schema]) -> None:
    """Make ``app.openapi()`` whole: the generated document and the schemas it refers to."""

    def document() -> Schema:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                openapi_version="3.1.0",
                description="Sell products, keep stock, take orders; every change is one event.",
                routes=app.routes,
            )
            definitions = dict(payload_schemas(_REF)[1])
            pages = {f"{name}Page": _page(name) for name in ("Product", "Order", "Movement")}
            made.setdefault("components", {})["schemas"] = {
                **definitions,
                **pages,
                **schemas,
                "Problem": _PROBLEM,
            }
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _answers(operation: Operation) -> dict[int | str, dict[str, Any]]:
    good: Schema = {"description": "Done."}
    if operation.answer is not None:
        good["content"] = {"application/json": {"schema": _ref(operation.answer)}}
    problem = {
        "description": "What went wrong (RFC 9457).",
        "content": {"application/problem+json": {"schema": _ref("Problem")}},
    }
    return {operation.status: good, "4XX": problem, "503": problem}


def _request(operation: Operation) -> Schema:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in ("id",)
        if f"{{{name}}}" in operation.path
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": _query_schema(name)}
        for name in operation.query
    ]
    headers = ["X-Seller-Id"]
    if operation.condition is not None:
        headers.append(operation.condition)
    parameters += [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
        for name in headers
    ]
    if operation.key != "none":
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": operation.key == "required",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        )
    extra: Schema = {"parameters": parameters}
    if operation.body is not None:
        content = {"application/json": {"schema": _ref(operation.body)}}
        extra["requestBody"] = {"required": True, "content": content}
    return extra


def _query_schema(name: str) -> Schema:
    if name in _NUMBERS:
        return {"type": "number"}
    if name == "updatedSince":
        return {"type": "string", "format": "date-time"}
    return _INTEGERS.get(name, {"type": "string"})


def _ref(name: str) -> Schema:
    return {"$ref": _REF.format(name=name)}


def _page(name: str) -> Schema:
    cursor = {"type": ["string", "null"]}
    return {
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": _ref(name)},
            "hasMore": {"type": "boolean"},
            "nextCursor": cursor,
            "prevCursor": cursor,
        },
        "required": ["data", "hasMore", "nextCursor", "prevCursor"],
    }


_PROBLEM: Final[Schema] = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "requestId": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
                "required": ["pointer", "code", "detail"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance", "code", "requestId", "errors"],
}
