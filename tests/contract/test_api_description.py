"""The committed description of the API is the one it serves, is whole, and takes nothing back."""

import hashlib
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
from tests.support.breaks import breaks

from shopstream_api.description import document, main
from shopstream_api.web.examples import problem_example
from shopstream_api.web.openapi import operations_in, references
from shopstream_api.web.problems import CONTENT_TYPE, PROBLEMS, Kind

ROOT: Final = Path(__file__).parents[2]
GOLDEN: Final = Path(__file__).parents[1] / "golden" / "openapi"
COMMITTED: Final[dict[str, Any]] = json.loads((ROOT / "docs" / "openapi.json").read_bytes())
#: Codes that no described operation gives: a fault of ours, and what only other methods get.
UNDESCRIBED: Final = {"internal_error", "method_not_allowed"}


def _validator(schema: dict[str, Any]) -> Any:
    """Of a schema inside the document."""
    return Draft202012Validator(
        {**schema, "components": COMMITTED["components"]},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


def _contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every described body, of requests and answers, with its place."""
    for path, method, operation in operations_in(COMMITTED):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in (*bodies, *COMMITTED["components"]["responses"].values()):
            for media_type, content in body.get("content", {}).items():
                yield f"{method} {path} {media_type}", content


def test_the_committed_document_is_the_one_the_api_serves() -> None:
    assert document() == COMMITTED


def test_drift_is_found_and_written_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"], tmp_path) == 1
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    written = (tmp_path / "docs" / "openapi.json").read_bytes()
    assert written == (ROOT / "docs" / "openapi.json").read_bytes()
    assert capsys.readouterr().out == "drifted: docs/openapi.json\nwritten: docs/openapi.json\n"


def test_the_document_is_openapi_3_1_and_all_its_references_lead_somewhere() -> None:
    assert OPENAPI_31_VALIDATOR.is_valid(COMMITTED)
    resolver = Registry().with_resource("", DRAFT202012.create_resource(COMMITTED)).resolver()
    for reference in references(COMMITTED):
        resolver.lookup(reference)


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations_in(COMMITTED)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name) for name in names), names


def test_every_described_body_has_an_example_that_fits_its_schema() -> None:
    for place, content in _contents():
        examples = [example["value"] for example in content.get("examples", {}).values()]
        reference = content["schema"].get("$ref", "").rpartition("/")[2]
        if reference:
            examples += COMMITTED["components"]["schemas"][reference].get("examples", [])
        assert examples, place
        for example in examples:
            errors = [error.message for error in _validator(content["schema"]).iter_errors(example)]
            assert not errors, (place, example)


def test_every_status_of_an_error_lists_its_codes_with_an_example_of_each() -> None:
    seen = set()
    for name, answer in COMMITTED["components"]["responses"].items():
        status, *codes = name.split("-")
        content = answer["content"][CONTENT_TYPE]
        assert content["schema"]["allOf"][1]["properties"]["code"]["enum"] == codes
        assert sorted(content["examples"]) == codes
        for code, example in content["examples"].items():
            assert (example["value"]["code"], example["value"]["status"]) == (code, int(status))
        seen.update(codes)
    assert seen == {kind.code for kind in PROBLEMS.values()} - UNDESCRIBED


def test_every_operation_says_that_it_may_be_unavailable_or_limited() -> None:
    for _, _, operation in operations_in(COMMITTED):
        answers = operation["responses"]
        assert {"429", "503"} <= answers.keys(), operation["operationId"]
        assert all(re.fullmatch("[1-5][0-9][0-9]", status) for status in answers)


@pytest.mark.parametrize("kind", PROBLEMS.values(), ids=lambda kind: kind.code)
def test_every_kind_of_problem_has_an_example_and_a_remedy(kind: Kind) -> None:
    example = problem_example(kind)
    assert _validator({"$ref": "#/components/schemas/Problem"}).is_valid(example)
    assert example["type"] == f"/problems/{kind.code}"
    assert kind.help.endswith(".")


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.json")))
def test_nothing_that_clients_rely_on_is_taken_back(name: str) -> None:
    assert breaks(json.loads((GOLDEN / name).read_bytes()), COMMITTED) == []


def test_no_frozen_description_has_changed() -> None:
    lines = (GOLDEN / "SHA256SUMS").read_text().splitlines()
    files = sorted(GOLDEN.glob("*.json"))
    assert files
    assert lines == [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in files
    ]
