"""The page's types of events: TypeScript from the same schemas as everything else.

One interface a Struct, what ``data`` is by event type, and the topic each type rides on, which with
the subject is the unit of sequence. Members are read-only and nullable as the schema says; what
JSON Schema bounds (lengths, patterns) TypeScript cannot say and leaves out.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from shopstream_shared.events.json_schema import payload_schemas
from shopstream_shared.events.registry import EVENT_TYPES

_REFERENCE: Final = "#/"
_SCALARS: Final = {"string": "string", "integer": "number", "number": "number", "null": "null"}
_HEAD: Final = """\
/**
 * What events carry, and on which topic each type rides.
 *
 * Written by `make schemas` from the Structs of `shopstream_shared.events`: not to be edited.
 */
"""


class NotExpressible(ValueError):
    """A schema uses what this generator does not know; it must be taught, not guessed."""


def typescript() -> str:
    """The text of the page's `contract.ts`. Raises NotExpressible."""
    by_type, definitions = payload_schemas(_REFERENCE + "{name}")
    parts = [_HEAD]
    parts += [_interface(name, schema) for name, schema in sorted(definitions.items())]
    parts.append(_topics())
    data = "".join(
        f"  readonly {_text(name)}: {type_of(schema)};\n" for name, schema in by_type.items()
    )
    parts.append(f"export interface EventData {{\n{data}}}\n")
    parts.append("export type EventType = keyof EventData;\n")
    return "\n".join(parts)


def _interface(name: str, schema: Mapping[str, Any]) -> str:
    description = schema.get("description", "").replace("``", "`")
    comment = f"/** {description} */\n" if description else ""
    return f"{comment}export interface {name} {{\n{''.join(_members(schema))}}}\n"


def _members(schema: Mapping[str, Any]) -> Iterator[str]:
    required = frozenset(schema.get("required", ()))
    for name, member in schema["properties"].items():
        yield f"  readonly {name}{'' if name in required else '?'}: {type_of(member)};\n"


def _topics() -> str:
    rows = "".join(f"  {_text(kind.name)}: {_text(kind.topic)},\n" for kind in EVENT_TYPES.values())
    return f"export const EVENT_TOPICS = {{\n{rows}}} as const;\n"


def type_of(schema: Mapping[str, Any]) -> str:
    """The type of a member. Raises NotExpressible."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REFERENCE)
    if "enum" in schema:
        values = sorted(schema["enum"], key=lambda value: (value is None, str(value)))
        return " | ".join("null" if value is None else _text(value) for value in values)
    if "anyOf" in schema:
        return " | ".join(type_of(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        item = type_of(schema["items"])
        return f"readonly ({item})[]" if " " in item else f"readonly {item}[]"
    if schema.get("type") in _SCALARS:
        return _SCALARS[schema["type"]]
    msg = f"no TypeScript for {json.dumps(schema)}"
    raise NotExpressible(msg)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or "'" in value or "\\" in value:
        msg = f"{value!r} as a text of TypeScript"
        raise NotExpressible(msg)
    return f"'{value}'"
