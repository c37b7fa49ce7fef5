"""The JSON Schema of an event, derived from the Struct that encodes and decodes it."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from shopstream_shared.events.codec import SEQUENCE_MAX
from shopstream_shared.events.registry import EVENT_TYPES, EventType

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_TEXT: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1}
_OPTIONAL: Final = frozenset({"datacontenttype", "dataschema", "correlationid", "traceparent"})


def event_schema(kind: EventType) -> Schema:
    """The schema (draft 2020-12) of a whole event of this type, complete in itself."""
    (data,), definitions = _components((kind.payload,), "#/$defs/{name}")
    return {
        "$schema": DIALECT,
        "$id": kind.schema,
        **envelope_schema(kind, data),
        "$defs": definitions,
    }


def payload_schemas(ref_template: str) -> tuple[Mapping[str, Schema], Schema]:
    """What ``data`` is by event type, and the definitions that it refers to."""
    kinds = tuple(EVENT_TYPES.values())
    data, definitions = _components(tuple(kind.payload for kind in kinds), ref_template)
    return {kind.name: entry for kind, entry in zip(kinds, data, strict=True)}, definitions


def envelope_schema(kind: EventType, data: Schema) -> Schema:
    """An object with the attributes of CloudEvents and ours, and ``data`` as given."""
    attributes: Schema = {
        "specversion": {"const": "1.0"},
        "id": {**_TEXT, "description": "Unique for ever; the same on every delivery."},
        "source": {**_TEXT, "format": "uri-reference"},
        "type": {"const": kind.name},
        "subject": {**_TEXT, "description": "The aggregate's id, and the record's key."},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "dataschema": {"const": kind.schema},
        "sellerid": dict(_TEXT),
        "sequence": {
            "type": "string",
            "pattern": "^[0-9]+$",
            "maxLength": len(str(SEQUENCE_MAX)),
            "description": "The aggregate's version, from 1 without a gap per topic and subject.",
        },
        "correlationid": {"type": "string"},
        "traceparent": {"type": "string"},
        "data": data,
    }
    return {
        "title": kind.name,
        "type": "object",
        "properties": attributes,
        "required": [name for name in attributes if name not in _OPTIONAL],
    }


def _components(payloads: tuple[type, ...], ref_template: str) -> tuple[tuple[Schema, ...], Schema]:
    data, definitions = msgspec.json.schema_components(payloads, ref_template=ref_template)
    return data, {name: _numbers(entry) for name, entry in definitions.items()}


def _numbers(node: Any) -> Any:
    """A decimal is a number on our wire; msgspec describes it as the string it writes by default.

    ``format: decimal`` stays: it says that no binary float should hold it.
    """
    if isinstance(node, dict):
        inner = {key: _numbers(value) for key, value in node.items()}
        return inner | {"type": "number"} if node.get("format") == "decimal" else inner
    if isinstance(node, list):
        return [_numbers(value) for value in node]
    return node
