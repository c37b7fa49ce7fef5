"""`shopstream bench-api --quick`: everything is measured, and what it measured was correct."""

from pathlib import Path

import pytest
from tests.support.bench import COMMAND_SECONDS_MAX, run_quick

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def test_a_quick_run_measures_every_promise_and_leaves_nothing_behind(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in run_quick("bench-api", tmp_path)}
    beginnings = ("POST /products", "GET /products", "List", "Search", "POST /orders", "Import")
    for beginning in beginnings:
        assert any(name.startswith(beginning) for name in rows), beginning
    creates = [row["figures"] for name, row in rows.items() if name.startswith("POST /products")]
    assert {name.rpartition(" ")[2] for name in rows if name.startswith("POST /products")} == {
        "publishing",
        "paused",
    }
    for row in creates:
        assert row["acknowledged"] > 0
        assert row["floor"] > 0
    sized = {(p["line"], p["size"]) for row in rows.values() for p in row["points"]}
    lines = ("a page of the list", "search, a rare word", "search, two words", "POST /products")
    assert sized == {(line, size) for line in lines for size in (200, 2_000)}
