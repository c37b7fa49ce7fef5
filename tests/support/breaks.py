"""What a new description of the API takes away from clients of an old one.

Requests may only be taken more widely, answers only be given more narrowly or with more members;
descriptions, examples and links are free.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

#: Of these keywords, a bound that may only fall and one that may only rise, read as "takes more".
_LOW: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_HIGH: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_EXACT: Final = ("pattern", "format", "multipleOf", "not", "const")
_COMBINED: Final = ("allOf", "anyOf", "oneOf", "items", "additionalProperties")
_PROBLEM: Final = "application/problem+json"


def breaks(old: Schema, new: Schema) -> list[str]:
    """Each break in a line of its own; none when every client of ``old`` can go on."""
    found: list[str] = []
    for path, methods in old["paths"].items():
        for method, before in methods.items():
            name = f"{method.upper()} {path}"
            after = new["paths"].get(path, {}).get(method)
            if after is None:
                found.append(f"{name}: is gone")
                continue
            compared = _Compared(old, new)
            found += [f"{name}: {line}" for line in compared.operation(before, after)]
    return found


class _Compared:
    """Two documents side by side; references are followed in each."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old = old
        self._new = new

    def operation(self, old: Schema, new: Schema) -> Iterator[str]:
        if old["operationId"] != new["operationId"]:
            yield f"operationId is {new['operationId']}, was {old['operationId']}"
        yield from self._parameters(old, new)
        yield from self._body(old.get("requestBody"), new.get("requestBody"))
        for status, answer in old["responses"].items():
            if status not in new["responses"]:
                yield f"{status}: is gone"
            else:
                before = _followed(self._old, answer)
                yield from _at(
                    status, self._answer(before, _followed(self._new, new["responses"][status]))
                )

    def _parameters(self, old: Schema, new: Schema) -> Iterator[str]:
        before = {_key(p): p for p in _all(self._old, old.get("parameters", []))}
        after = {_key(p): p for p in _all(self._new, new.get("parameters", []))}
        for key, parameter in after.items():
            if parameter.get("required") and not before.get(key, {}).get("required"):
                yield f"{key}: is required now"
        for key, parameter in before.items():
            if key not in after:
                yield f"{key}: is gone"
            else:
                schemas = (parameter["schema"], after[key]["schema"])
                yield from _at(key, _narrowed(*schemas, self._old, self._new))

    def _body(self, old: Schema | None, new: Schema | None) -> Iterator[str]:
        if new is not None and new.get("required") and not (old or {}).get("required"):
            yield "body: is required now"
        for media_type, content in (old or {}).get("content", {}).items():
            after = (new or {}).get("content", {}).get(media_type)
            if after is None:
                yield f"body: {media_type} is not taken any more"
            else:
                schemas = (content["schema"], after["schema"])
                yield from _at("body", _narrowed(*schemas, self._old, self._new))

    def _answer(self, old: Schema, new: Schema) -> Iterator[str]:
        for name, header in _headers(self._old, old).items():
            after = _headers(self._new, new).get(name)
            if after is None or (header.get("required") and not after.get("required")):
                yield f"header {name}: is not promised any more"
        for media_type, content in old.get("content", {}).items():
            after = new.get("content", {}).get(media_type)
            if after is None:
                yield f"{media_type} is not given any more"
            elif media_type != _PROBLEM:
                # An answer may be narrower: what was described before must take all that comes now.
                yield from _gone_members(content["schema"], after["schema"], self._old, self._new)
                yield from _narrowed(after["schema"], content["schema"], self._new, self._old)


def _narrowed(
    old: Schema, new: Schema, old_root: Schema, new_root: Schema, seen: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Why ``new`` may refuse a value that ``old`` takes."""
    pair = f"{old.get('$ref')} {new.get('$ref')}"
    if pair in seen:
        return
    if "$ref" in old or "$ref" in new:
        seen |= {pair}
    old, new = _followed(old_root, old), _followed(new_root, new)
    lost = _types(old) - _types(new) if "type" in new else set()
    if lost:
        yield f"is not of type {', '.join(sorted(lost))} any more"
    yield from _values(old, new)
    yield from _bounds(old, new)
    yield from _members(old, new, old_root, new_root, seen)
    for keyword in _COMBINED:
        parts = zip(_parts(old, keyword), _parts(new, keyword), strict=False)
        if len(_parts(old, keyword)) < len(_parts(new, keyword)) and keyword != "anyOf":
            yield f"{keyword}: is narrower"
        for before, after in parts:
            yield from _at(keyword, _narrowed(before, after, old_root, new_root, seen))


def _members(
    old: Schema, new: Schema, old_root: Schema, new_root: Schema, seen: frozenset[str]
) -> Iterator[str]:
    for name in set(new.get("required", ())) - set(old.get("required", ())):
        yield f"{name}: is required now"
    properties = new.get("properties", {})
    for name, member in old.get("properties", {}).items():
        if name in properties:
            inner = _narrowed(member, properties[name], old_root, new_root, seen)
            yield from _at(name, inner)
        elif new.get("additionalProperties") is False:
            yield f"{name}: is not taken any more"


def _values(old: Schema, new: Schema) -> Iterator[str]:
    if "enum" in new:
        allowed = new["enum"]
        left = [value for value in old.get("enum", ["any value"]) if value not in allowed]
        if left:
            yield f"does not take {', '.join(map(str, left))} any more"


def _bounds(old: Schema, new: Schema) -> Iterator[str]:
    for keyword in _LOW:
        if keyword in new and not old.get(keyword, float("-inf")) >= new[keyword]:
            yield f"{keyword} is {new[keyword]}, was {old.get(keyword)}"
    for keyword in _HIGH:
        if keyword in new and not old.get(keyword, float("inf")) <= new[keyword]:
            yield f"{keyword} is {new[keyword]}, was {old.get(keyword)}"
    for keyword in _EXACT:
        if keyword in new and old.get(keyword) != new[keyword]:
            yield f"{keyword} is {new[keyword]}, was {old.get(keyword)}"
    if new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
        yield "takes no other members any more"


def _gone_members(
    old: Schema, new: Schema, old_root: Schema, new_root: Schema, seen: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Members of an answer that are not described any more, at any depth."""
    pair = f"{old.get('$ref')} {new.get('$ref')}"
    if "$ref" in old and pair in seen:
        return
    seen |= {pair}
    old, new = _followed(old_root, old), _followed(new_root, new)
    after = new.get("properties", {})
    for name, member in old.get("properties", {}).items():
        if name not in after:
            yield f"{name}: is gone"
        else:
            yield from _at(name, _gone_members(member, after[name], old_root, new_root, seen))
    if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
        inner = _gone_members(old["items"], new["items"], old_root, new_root, seen)
        yield from _at("items", inner)


def _followed(root: Schema, node: Schema) -> Schema:
    while "$ref" in node:
        target: Any = root
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


def _all(root: Schema, nodes: list[Schema]) -> list[Schema]:
    return [_followed(root, node) for node in nodes]


def _headers(root: Schema, answer: Schema) -> dict[str, Schema]:
    return {name: _followed(root, header) for name, header in answer.get("headers", {}).items()}


def _key(parameter: Schema) -> str:
    return f"{parameter['in']} {parameter['name']}"


def _types(schema: Schema) -> set[str]:
    named = schema.get("type")
    if named is None:
        return set() if schema.get("enum") or "const" in schema else {"any"}
    types = {named} if isinstance(named, str) else set(named)
    # Every integer is a number.
    return types | {"integer"} if "number" in types else types


def _parts(schema: Schema, keyword: str) -> list[Schema]:
    found = schema.get(keyword)
    if isinstance(found, dict):
        return [found]
    return found if isinstance(found, list) else []


def _at(place: str, lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield (
            f"{place}: {line}"
            if not line.startswith(("is ", "does ", "takes "))
            else f"{place} {line}"
        )
