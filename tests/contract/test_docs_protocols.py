"""docs/protocols.md names for each rule of relay and consumers the tests that go red without it."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "protocols.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (\d+) \| (`.+`) \|$", TEXT, re.MULTILINE))


def test_each_rule_of_the_relay_and_of_the_consumers_has_a_row() -> None:
    assert list(ROWS) == [str(rule) for rule in (*range(1, 13), *range(15, 26))]


def test_every_test_that_is_named_is_there() -> None:
    for row in ROWS.values():
        for path, name in re.findall(r"`([^`]+)::([^`]+)`", row):
            tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
            assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, name
