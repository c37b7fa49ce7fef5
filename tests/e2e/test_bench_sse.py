"""`shopstream bench-sse --quick`: every row is measured, and each stream had every event once."""

import json
from pathlib import Path

import pytest
from tests.support.bench import COMMAND_SECONDS_MAX, run_quick

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def test_a_quick_run_measures_every_row_and_leaves_nothing_behind(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run_quick("bench-sse", tmp_path / "data", figures)
    rows = json.loads(figures.read_text())["rows"]
    beginnings = (
        "20 idle connections",
        "20 connections, ids of 3 partitions",
        "20 connections, 20 events/s",
        "2 of 20 connections do not read",
        "20 connections, 10 filters",
        "10 cut at once, beside 10",
        "20 connections, ids of 7 partitions",
        "Stock sse-starlette",
        "20 connections, 2 workers, one in 5 matches",
        "20 connections, 2 workers, 20 events/s",
    )
    assert len(rows) == len(beginnings)
    for row, beginning in zip(rows, beginnings, strict=True):
        assert row["name"].startswith(beginning)
        assert row["faults"] == []
        assert row["verdict"] == "measured"
        assert row["figures"].get("rate", 1) > 0
    steady = [row["figures"] for row in rows if "p50Ms" in row["figures"]]
    assert all(0 < figures["p50Ms"] <= figures["p99Ms"] for figures in steady)
    cut = next(row["figures"] for row in rows if row["name"].startswith("10 cut"))
    assert cut["seconds"] > 0
    assert not (tmp_path / "data" / "bench").exists()
