"""The committed description of the read API is the one it serves, and is whole."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from shopstream_analytics.description import document, main
from shopstream_analytics.web.operations import operations_in
from shopstream_analytics.web.problems import CONTENT_TYPE, KINDS
from shopstream_analytics.web.schemas import EXAMPLES, SCHEMAS

ROOT: Final = Path(__file__).parents[2]
COMMITTED: Final[dict[str, Any]] = json.loads(
    (ROOT / "docs" / "openapi-analytics.json").read_bytes()
)
#: Codes that no described operation gives: faults of ours, and what other methods get.
UNDESCRIBED: Final = {"internal_error", "method_not_allowed", "request_failed"}


def faults(schema: dict[str, Any], example: object) -> list[str]:
    validator = Draft202012Validator(
        {**schema, "components": COMMITTED["components"]},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )
    return [error.message for error in validator.iter_errors(example)]


def contents() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every described body with its place and media type."""
    for path, method, operation in operations_in(COMMITTED):
        for status, answer in operation["responses"].items():
            for media_type, content in answer.get("content", {}).items():
                yield f"{method} {path} {status}", media_type, content


def test_the_committed_document_is_the_one_the_service_serves() -> None:
    assert document() == COMMITTED


def test_drift_is_found_and_written_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"], tmp_path) == 1
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [
        "drifted: docs/openapi-analytics.json",
        "written: docs/openapi-analytics.json",
    ]


def test_the_document_is_openapi_3_1_and_all_its_references_lead_somewhere() -> None:
    assert OPENAPI_31_VALIDATOR.is_valid(COMMITTED)
    resolver = Registry().with_resource("", DRAFT202012.create_resource(COMMITTED)).resolver()
    for reference in re.findall(r'"\$ref": ?"([^"]+)"', json.dumps(COMMITTED)):
        resolver.lookup(reference)


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations_in(COMMITTED)]
    assert len(names) == len(set(names))


def test_every_schema_that_is_answered_has_an_example_that_fits() -> None:
    for name, schema in SCHEMAS.items():
        assert name in EXAMPLES
        assert faults(dict(schema), EXAMPLES[name]) == [], name


def test_every_refusal_has_an_example_of_each_of_its_codes() -> None:
    seen = set()
    for place, media_type, content in contents():
        if media_type != CONTENT_TYPE:
            continue
        codes = content["schema"]["allOf"][1]["properties"]["code"]["enum"]
        assert sorted(content["examples"]) == sorted(codes)
        for code, example in content["examples"].items():
            assert faults(content["schema"], example["value"]) == [], place
            assert str(example["value"]["status"]) == place.split()[-1]
            seen.add(code)
    assert seen == set(KINDS) - UNDESCRIBED


def test_every_parameter_has_a_description_and_an_example_of_its_kind() -> None:
    for path, _, operation in operations_in(COMMITTED):
        for parameter in operation["parameters"]:
            assert parameter["description"].endswith("."), (path, parameter["name"])
            if parameter["name"] != "cursor":
                assert faults(parameter["schema"], parameter["example"]) == [], parameter
