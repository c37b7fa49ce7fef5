"""The links of the description, walked: from each new thing to all that it leads to."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from tests.support.app import InProcess


@dataclass(frozen=True, slots=True)
class Link:
    """From the answer of one operation to another; ``how`` is the OpenAPI link object."""

    source: str
    target: str
    how: dict[str, Any]


class Walker:
    """Calls operations of a document by name, with the examples it gives."""

    def __init__(self, running: InProcess, document: dict[str, Any]) -> None:
        self._running = running
        self._document = document
        self._operations = {
            operation["operationId"]: (method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }

    def links(self) -> Iterator[Link]:
        """All that the document describes."""
        for name, (_, _, operation) in self._operations.items():
            for answer in operation["responses"].values():
                for target, how in answer.get("links", {}).items():
                    yield Link(name, target, how)

    def walked(self) -> Iterator[tuple[Link, httpx.Response]]:
        """Each link with the answer at its end, its source reached afresh by links that went well.

        Fails when a link's source cannot be reached.
        """
        left = list(self.links())
        starts = {link.source for link in left} - {link.target for link in left}
        ways: dict[str, list[Link]] = {start: [] for start in starts}
        while ready := [link for link in left if link.source in ways]:
            for link in ready:
                left.remove(link)
                way = [*ways[link.source], link]
                answer = self._follow(way)
                if answer.is_success:
                    ways.setdefault(link.target, way)
                yield link, answer
        assert not left, f"nothing leads to {sorted({link.source for link in left})}"

    def _follow(self, way: list[Link]) -> httpx.Response:
        answer = self._call(way[0].source, {}, None)
        for link in way:
            assert answer.is_success, (link, answer.text)
            body = answer.json()
            parameters = {
                name: _found(expression, body)
                for name, expression in link.how.get("parameters", {}).items()
            }
            answer = self._call(link.target, parameters, _found(link.how.get("requestBody"), body))
        return answer

    def _call(self, name: str, parameters: dict[str, Any], body: object) -> httpx.Response:
        method, path, operation = self._operations[name]
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        arguments: dict[str, Any] = {"headers": headers}
        if "requestBody" in operation:
            (media_type, content), *_ = operation["requestBody"]["content"].items()
            body = body or self._example(content["schema"]["$ref"])
            headers["Content-Type"] = media_type
            arguments["content"] = body if isinstance(body, str) else json.dumps(body)
        return self._running.request(method.upper(), path.format(**parameters), **arguments)

    def _example(self, reference: str) -> Any:
        schema = self._document["components"]["schemas"][reference.rpartition("/")[2]]
        example = schema["examples"][0]
        if isinstance(example, dict) and "sku" in example:
            # Each walk makes a product of its own.
            return {**example, "sku": uuid.uuid4().hex}
        return example


def _found(expression: Any, body: Any) -> Any:
    """The expression's value; inside lists and objects too."""
    if isinstance(expression, dict):
        return {name: _found(value, body) for name, value in expression.items()}
    if isinstance(expression, list):
        return [_found(value, body) for value in expression]
    if isinstance(expression, str) and expression.startswith("$response.body#/"):
        for name in expression.removeprefix("$response.body#/").split("/"):
            body = body[name]
        return body
    return expression
