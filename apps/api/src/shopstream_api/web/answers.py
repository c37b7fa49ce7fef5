"""What may come back, as OpenAPI describes it, from a route's row: each status by its own."""

from collections import defaultdict
from http import HTTPStatus
from typing import Any, Final

from shopstream_api.web.examples import problem_example
from shopstream_api.web.operations import Operation, errors_of
from shopstream_api.web.problems import CONTENT_TYPE, PROBLEMS, Kind

Schema = dict[str, Any]

_SCHEMA_REF: Final = "#/components/schemas/{}"


def _header(description: str, *, required: bool = False, **schema: object) -> Schema:
    return {
        "description": description,
        "required": required,
        "schema": {"type": "string", **schema},
    }


#: Components. A required one is on every answer that refers to it.
HEADERS: Final[dict[str, Schema]] = {
    "X-Request-Id": _header("Names the request.", required=True, minLength=1),
    "X-Correlation-Id": _header("What the events carry.", required=True, minLength=1),
    "ETag": _header("The version shown.", required=True, pattern=r'^"v[0-9]+(\.[0-9]+)?"$'),
    "Location": _header("Where the new thing is.", required=True, format="uri-reference"),
    "X-Stream-Position": _header(
        "A stream id at or before everything the answer does not show; "
        "absent before the first event."
    ),
    "Idempotent-Replayed": _header(
        "The answer is that of an earlier request with this key.", enum=["true"]
    ),
    "Retry-After": _header("Seconds to wait.", required=True, type="integer", minimum=1),
    "Allow": _header("The methods of this address.", required=True),
    "RateLimit-Policy": _header("Quota and window in seconds, where requests are counted."),
    "RateLimit": _header("What is left of the quota, and seconds until it is whole."),
}
_EVERYWHERE: Final = ("X-Request-Id", "X-Correlation-Id", "RateLimit-Policy", "RateLimit")


def answers_of(operation: Operation) -> dict[int | str, dict[str, Any]]:
    """Responses by status; one that several codes share lists them all."""
    made: dict[int | str, dict[str, Any]] = {operation.status: _good(operation)}
    if operation.condition == "If-None-Match":
        names = ("ETag", *(("X-Stream-Position",) if operation.positioned else ()))
        made[304] = {"description": "The caller holds this version.", "headers": _refs(*names)}
    for status, kinds in sorted(_by_status(operation).items()):
        made[status] = _refused(status, kinds)
    return made


def _good(operation: Operation) -> Schema:
    names = [
        name
        for name, there in (
            ("ETag", operation.tagged),
            ("Location", operation.creates),
            ("X-Stream-Position", operation.positioned),
            ("Idempotent-Replayed", operation.key != "none"),
        )
        if there
    ]
    good: Schema = {
        "description": HTTPStatus(operation.status).phrase,
        "headers": _refs(*names),
    }
    if operation.answer is not None:
        schema = {"$ref": _SCHEMA_REF.format(operation.answer)}
        good["content"] = {operation.answer_type: {"schema": schema}}
    if operation.links:
        good["links"] = dict(operation.links)
    return good


def _by_status(operation: Operation) -> dict[int, list[Kind]]:
    found: dict[int, list[Kind]] = defaultdict(list)
    for error in errors_of(operation):
        found[PROBLEMS[error].status].append(PROBLEMS[error])
    return found


def _refused(status: int, kinds: list[Kind]) -> Schema:
    codes = sorted(kind.code for kind in kinds)
    again = any(kind.retry_after for kind in kinds)
    sometimes = again and not all(kind.retry_after for kind in kinds)
    headers = _refs(*(("Retry-After",) if again and not sometimes else ()))
    if sometimes:
        headers["Retry-After"] = {**HEADERS["Retry-After"], "required": False}
    of_these = {"properties": {"code": {"enum": codes}, "status": {"const": status}}}
    return {
        "description": "; ".join(kind.title for kind in kinds) + ".",
        "headers": headers,
        "content": {
            CONTENT_TYPE: {
                "schema": {"allOf": [{"$ref": _SCHEMA_REF.format("Problem")}, of_these]},
                "examples": {
                    kind.code: {"summary": kind.title, "value": problem_example(kind)}
                    for kind in kinds
                },
            }
        },
    }


def _refs(*names: str) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, *_EVERYWHERE)}
