"""What a route says of itself; its description in OpenAPI is made from this row alone.

Handlers parse their parameters themselves, so nothing here takes part in serving a request.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import Response

from shopstream_analytics.web.forms import MEDIA_TYPES
from shopstream_analytics.web.problems import CONTENT_TYPE, KINDS, Fault, body_of
from shopstream_analytics.web.schemas import EXAMPLES, FILES, SCHEMAS

Schema = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]

_REF: Final = "#/components/schemas/{}"
_HEADER: Final = "#/components/headers/{}"
_REQUEST_ID: Final = "0192f5c6-55d0-7e19-8c2f-6b7a90e3d155"
HEADERS: Final[Mapping[str, Schema]] = {
    "ETag": {
        "description": "Names content and form; send it as If-None-Match.",
        "schema": {"type": "string", "pattern": '^"[0-9a-f]{32}-[a-z]+"$'},
    },
    "Content-Disposition": {
        "description": "The file's name; not on JSON.",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {"description": "How to say who you are.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
}
_WITH: Final = {"unavailable": "Retry-After", "unauthenticated": "WWW-Authenticate"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """``example``: a value that works anywhere; None where there is none such."""

    name: str
    description: str
    schema: Mapping[str, Any]
    example: object
    where: str = "query"

    def as_openapi(self) -> Schema:
        return {
            "name": self.name,
            "in": self.where,
            "required": self.where == "path",
            "description": self.description,
            "schema": dict(self.schema),
            **({} if self.example is None else {"example": self.example}),
        }


@dataclass(frozen=True, slots=True)
class Operation:
    """One route; ``answer`` is the name of a schema.

    ``forms``: it can be had as a file too. ``tagged``: it carries an ETag, as a file does.
    """

    name: str
    path: str
    handler: Handler
    summary: str
    answer: str
    parameters: Sequence[Parameter] = ()
    codes: Sequence[str] = ()
    tag: str = "reads"
    method: str = "GET"
    forms: bool = False
    tagged: bool = False
    description: str = ""


def router(operations: Sequence[Operation]) -> APIRouter:
    """A router of these operations, each HEAD too where it is GET (RFC 9110)."""
    routes = APIRouter()
    for operation in operations:
        routes.add_api_route(
            operation.path,
            operation.handler,
            methods=[operation.method],
            operation_id=operation.name,
            summary=operation.summary,
            description=operation.description or None,
            tags=[operation.tag],
            response_class=Response,
            responses=_answers(operation),
            openapi_extra=_extra(operation),
        )
        if operation.method == "GET":
            routes.add_api_route(
                operation.path, operation.handler, methods=["HEAD"], include_in_schema=False
            )
    return routes


def describe(app: FastAPI) -> None:
    """Make ``app.openapi()`` whole: the generated document and the parts it refers to."""

    def document() -> Schema:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                openapi_version="3.1.0",
                summary="What the shop's events add up to, the newest of them, and how it goes.",
                routes=app.routes,
            )
            made["components"] = {
                "schemas": {
                    name: {**schema, "examples": [EXAMPLES[name]]}
                    if name in EXAMPLES
                    else dict(schema)
                    for name, schema in SCHEMAS.items()
                },
                "headers": dict(HEADERS),
                "securitySchemes": {"operator": {"type": "http", "scheme": "bearer"}},
            }
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def operations_in(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    """(path, method, operation) of a document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _extra(operation: Operation) -> Schema:
    extra: Schema = {"parameters": [one.as_openapi() for one in operation.parameters]}
    if "unauthenticated" in operation.codes:
        # Also without: a system without a token asks for none.
        extra["security"] = [{"operator": []}, {}]
    return extra


def _answers(operation: Operation) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": _REF.format(operation.answer)}
    content: Schema = {MEDIA_TYPES["json"]: {"schema": schema}}
    found: dict[int | str, dict[str, Any]] = {200: {"description": "OK", "content": content}}
    if operation.forms:
        for form, example in FILES.items():
            kind = {"type": "string"} | ({} if example else {"format": "binary"})
            content[MEDIA_TYPES[form]] = {"schema": kind} | (
                {"examples": {"file": {"value": example}}} if example else {}
            )
    if operation.forms or operation.tagged:
        names = ("ETag", *(("Content-Disposition",) if operation.forms else ()))
        found[200]["headers"] = {name: {"$ref": _HEADER.format(name)} for name in names}
        tag = {"ETag": {"$ref": _HEADER.format("ETag")}}
        found[304] = {"description": "The caller holds this answer.", "headers": tag}
    by_status: dict[int, list[str]] = {}
    for code in (*operation.codes, "unavailable", "store_refused"):
        by_status.setdefault(KINDS[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        found[status] = _refused(operation, status, codes)
    return found


def _refused(operation: Operation, status: int, codes: Sequence[str]) -> Schema:
    examples = {
        code: {
            "summary": KINDS[code].help,
            "value": body_of(
                KINDS[code],
                detail=KINDS[code].help,
                instance=operation.path,
                request_id=_REQUEST_ID,
                faults=[Fault("from", "is later than to")] if code == "validation_failed" else (),
            ),
        }
        for code in codes
    }
    answer: Schema = {
        "description": HTTPStatus(status).phrase,
        "content": {
            CONTENT_TYPE: {
                "schema": {
                    "allOf": [
                        {"$ref": _REF.format("Problem")},
                        {"properties": {"code": {"enum": list(codes)}}},
                    ]
                },
                "examples": examples,
            }
        },
    }
    names = [_WITH[code] for code in codes if code in _WITH]
    if names:
        answer["headers"] = {name: {"$ref": _HEADER.format(name)} for name in names}
    return answer
