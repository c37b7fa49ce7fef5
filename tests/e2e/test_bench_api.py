"""`shopstream bench-api --quick`: everything is measured, and what it measured was correct."""

import json
from pathlib import Path

import pytest
from tests.support.bench import COMMAND_SECONDS_MAX, run_quick

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def test_a_quick_run_measures_every_promise_and_leaves_nothing_behind(tmp_path: Path) -> None:
    data, figures = tmp_path / "data", tmp_path / "figures.json"
    run_quick("bench-api", data, figures)
    found = json.loads(figures.read_text())
    rows = {row["name"]: row for row in found["rows"]}
    beginnings = ("POST /products", "GET /products", "List", "Search", "POST /orders", "Import")
    for beginning in beginnings:
        assert any(name.startswith(beginning) for name in rows), beginning
    for name, row in rows.items():
        assert row["verdict"] == "measured", name
        assert row["faults"] == [], name
        assert row["figures"]["rate"] > 0, name
    creates = [row["figures"] for name, row in rows.items() if name.startswith("POST /products")]
    assert {name.rpartition(" ")[2] for name in rows if name.startswith("POST /products")} == {
        "publishing",
        "paused",
    }
    for row in creates:
        assert row["acknowledged"] > 0
        assert row["floor"] > 0
    assert not (data / "bench").exists()
