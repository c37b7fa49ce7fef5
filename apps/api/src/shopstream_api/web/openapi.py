"""The description of the API, OpenAPI 3.1: the rows of the routes, whole.

Handlers read bodies themselves, so nothing here takes part in serving a request.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from shopstream_api.web.answers import HEADERS, answers_of
from shopstream_api.web.examples import EXAMPLES
from shopstream_api.web.operations import PAGED, Handler, Operation
from shopstream_api.web.problems import CONTENT_TYPE
from shopstream_api.web.requests import HEADER_PARAMETERS, request_of
from shopstream_shared.events.json_schema import payload_schemas

Schema = dict[str, Any]

_REF: Final = "#/components/schemas/{name}"
_PAGE: Final = "Page"
_SUMMARY: Final = "Sell products, keep stock, take orders; every change is one event."
#: Where things live, by the schema that shows one: its id leads to all below.
_RESOURCES: Final = {
    "Product": "/products/{id}",
    "Order": "/orders/{id}",
    "Reservation": "/reservations/{id}",
    "Import": "/imports/{id}",
}
#: Of paths such as /products/bulk, beside /products/{id}.
WORDS: Final = ("bulk", "transitions")


class _Id(StringConvertor):
    """A path's id: any text but the words that stand in its place in paths of their own.

    Without this a method that such a path does not have would be taken for one on the id.
    """

    regex = f"(?!(?:{'|'.join(WORDS)})(?:/|$))[^/]+"


def routes(tag: str, operations: Sequence[Operation]) -> APIRouter:
    """A router of these operations."""
    register_url_convertor("id", _Id())
    router = APIRouter(tags=[tag])
    for operation in operations:
        path = operation.path.replace("{id}", "{id:id}")
        router.add_api_route(
            path,
            operation.handler,
            methods=[operation.method],
            operation_id=operation.name,
            summary=operation.summary,
            description=operation.description or None,
            status_code=operation.status,
            response_class=Response,
            responses=answers_of(operation),
            openapi_extra=request_of(operation),
        )
        if operation.method == "GET":
            # RFC 9110: HEAD wherever GET is; the server leaves out the body.
            router.add_api_route(path, operation.handler, methods=["HEAD"], include_in_schema=False)
    return router


def describe(app: FastAPI, schemas: Mapping[str, Schema]) -> None:
    """Make ``app.openapi()`` whole: the generated document and the parts it refers to."""

    def document() -> Schema:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                openapi_version="3.1.0",
                summary=_SUMMARY,
                description=app.description,
                routes=app.routes,
                servers=[{"url": "/"}, {"url": "/api/v1", "description": "The same, by version"}],
            )
            _link(made)
            made["components"] = {
                "schemas": _schemas(made, schemas),
                "responses": _shared_answers(made),
                "headers": HEADERS,
                "parameters": HEADER_PARAMETERS,
            }
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _schemas(document: Schema, schemas: Mapping[str, Schema]) -> dict[str, Schema]:
    """All that is referred to by name, with an example where there is one."""
    found = {**payload_schemas(_REF)[1], **schemas}
    listed = {
        name.removesuffix(_PAGE)
        for name in map(_name_of, references(document))
        if name.endswith(_PAGE) and name not in found
    }
    found |= {f"{name}{_PAGE}": _page(name) for name in sorted(listed)}
    return {
        name: {**schema, "examples": [EXAMPLES[name]]} if name in EXAMPLES else schema
        for name, schema in found.items()
    }


def references(node: object) -> Iterator[str]:
    """Every ``$ref`` below a node."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def operations_in(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    """(path, method, operation) of a document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _link(document: Schema) -> None:
    """A created thing's id leads to every operation on it."""
    by_path = [(path, operation) for path, _, operation in operations_in(document)]
    for _path, _method, operation in operations_in(document):
        follows: Sequence[str] = operation.pop("x-follows", ())
        for status, answer in operation["responses"].items():
            resource = _RESOURCES.get(_answered(answer))
            if resource is None or not status.startswith("2"):
                continue
            created = status in ("201", "202")
            for path, target in by_path:
                name = target["operationId"]
                other = path.startswith(resource) and name != operation["operationId"]
                if other and (created or name in follows):
                    answer.setdefault("links", {})[name] = _to(target)


def _answered(answer: Schema) -> str:
    """The name of the schema that an answer shows; empty when it shows none."""
    for content in answer.get("content", {}).values():
        return _name_of(content.get("schema", {}).get("$ref", ""))
    return ""


def _shared_answers(document: Schema) -> dict[str, Schema]:
    """Move refusals, which many operations share, to where each is described once."""
    shared: dict[str, Schema] = {}
    for _path, _method, operation in operations_in(document):
        for status, answer in operation["responses"].items():
            if status >= "4":
                codes = answer["content"][CONTENT_TYPE]["examples"]
                name = "-".join((status, *sorted(codes)))
                shared[name] = answer
                operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return dict(sorted(shared.items()))


def _to(target: Schema) -> Schema:
    return {
        "operationId": target["operationId"],
        "parameters": {"id": "$response.body#/id"},
    }


def _name_of(reference: str) -> str:
    return reference.rpartition("/")[2]


def _page(name: str) -> Schema:
    cursor = {"type": ["string", "null"]}
    return {
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": {"$ref": _REF.format(name=name)}},
            "hasMore": {"type": "boolean"},
            "nextCursor": cursor,
            "prevCursor": cursor,
        },
        "required": ["data", "hasMore", "nextCursor", "prevCursor"],
    }


__all__ = ["PAGED", "Handler", "Operation", "describe", "operations_in", "references", "routes"]
