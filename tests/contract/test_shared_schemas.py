"""The committed schemas are those of the code, and say what the codec does."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from tests.support.events import golden, with_data

from shopstream_shared.events.codec import InvalidData, decode
from shopstream_shared.events.registry import EVENT_TYPES
from shopstream_shared.events.schemas import documents, load_schema, main
from shopstream_shared.events.typescript import NotExpressible, type_of, typescript
from shopstream_shared.topics import load_topics

ROOT = Path(__file__).parents[2]
ASYNCAPI_SCHEMA = Path(__file__).parent / "vendor" / "asyncapi-3.0.0.schema.json"


def asyncapi() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "docs" / "asyncapi.json").read_bytes())
    return document


def test_no_committed_schema_has_drifted_from_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out
    committed = set((ROOT / "packages/shared/src/shopstream_shared/schemas").iterdir())
    generated = {ROOT / path for path, _ in documents()}
    assert committed <= generated, "a schema that nothing generates"


def test_drift_is_found_and_written_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    path = next(iter(documents()))[0]
    (tmp_path / path).write_bytes(b"{}")
    capsys.readouterr()

    assert main(["--check"], tmp_path) == 1
    assert (tmp_path / path).read_bytes() == b"{}"
    assert main([], tmp_path) == 0

    assert capsys.readouterr().out == f"drifted: {path}\nwritten: {path}\n"
    assert main(["--check"], tmp_path) == 0


@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=lambda kind: kind.name)
def test_each_schema_is_valid_and_named_by_its_dataschema_path(kind: Any) -> None:
    schema = json.loads(load_schema(kind))

    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == kind.schema


@pytest.mark.parametrize(
    ("event_type", "members"),
    [
        ("product.created", {"price": "99.99"}),
        ("product.created", {"price": "NaN"}),
        ("product.created", {"price": -1}),
        ("product.created", {"price": 1e300}),
        ("product.created", {"priceMinor": 2**64}),
        ("product.created", {"priceMinor": 1.5}),
        ("product.created", {"name": ""}),
        ("product.created", {"currency": "usd"}),
        ("product.created", {"status": "gone"}),
        ("product.created", {"createdAt": "2026-11-21T05:00:00Z"}),
        ("product.created", {"version": 0}),
        ("order.created", {"total": "1"}),
        ("order.created", {"items": []}),
        ("order.refunded", {"refundAmountMinor": 0}),
        ("inventory.updated", {"stock": -1}),
        ("inventory.updated", {"delta": None}),
    ],
)
def test_what_the_codec_rejects_as_data_the_schema_rejects_too(
    event_type: str, members: dict[str, Any]
) -> None:
    value = with_data(golden(event_type), **members)
    validator = Draft202012Validator(json.loads(load_schema(EVENT_TYPES[event_type])))

    assert not validator.is_valid(json.loads(value))
    with pytest.raises(InvalidData):
        decode(value)


def test_an_unknown_member_passes_both() -> None:
    value = with_data(golden("product.created"), colour="blue")
    validator = Draft202012Validator(json.loads(load_schema(EVENT_TYPES["product.created"])))

    assert validator.is_valid(json.loads(value))
    assert decode(value).type == "product.created"


def test_the_pages_types_name_every_type_its_topic_and_every_member() -> None:
    text = typescript()

    for kind in EVENT_TYPES.values():
        assert f"'{kind.name}': '{kind.topic}'," in text
        assert f"readonly '{kind.name}': {kind.payload.__name__};" in text
        for member in json.loads(load_schema(kind))["$defs"][kind.payload.__name__]["properties"]:
            assert f"  readonly {member}: " in text


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "minLength": 1}, "string"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "number | null"),
        ({"enum": [None, "b", "a"]}, "'a' | 'b' | null"),
        ({"type": "array", "items": {"$ref": "#/Line"}}, "readonly Line[]"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "readonly ('a' | 'b')[]"),
    ],
)
def test_a_schema_becomes_the_type_of_the_page(schema: dict[str, Any], expected: str) -> None:
    assert type_of(schema) == expected


@pytest.mark.parametrize("schema", [{}, {"type": "object"}, {"enum": ["it's"]}, {"enum": [1]}])
def test_a_schema_that_the_generator_does_not_know_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(NotExpressible):
        type_of(schema)


def test_the_asyncapi_document_is_asyncapi_3() -> None:
    Draft7Validator(json.loads(ASYNCAPI_SCHEMA.read_bytes())).validate(asyncapi())


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()
    resource = DRAFT202012.create_resource(document)
    resolver = Registry().with_resource("", resource).resolver()

    references = list(_references(document))

    assert references
    for reference in references:
        resolver.lookup(reference)


def test_the_asyncapi_document_carries_every_type_on_its_topic_with_its_settings() -> None:
    channels = {channel["address"]: channel for channel in asyncapi()["channels"].values()}
    specs = load_topics("production")

    assert channels.keys() == specs.keys()
    for kind in EVENT_TYPES.values():
        assert kind.name in channels[kind.topic]["messages"]
    for name, spec in specs.items():
        binding = channels[name]["bindings"]["kafka"]
        assert (binding["partitions"], binding["replicas"]) == (spec.partitions, spec.replication)
        assert binding["topicConfiguration"]["retention.ms"] == spec.retention_ms


def test_the_asyncapi_payloads_accept_the_golden_events() -> None:
    document = asyncapi()
    for name in EVENT_TYPES:
        payload = document["components"]["messages"][name]["payload"]
        schema = {**payload, "components": document["components"]}
        Draft202012Validator(schema).validate(json.loads(golden(name)))


def _references(node: Any) -> Any:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
