"""`shopstream bench-analytics --quick`: every row is measured, and every event was there once."""

import json
from pathlib import Path

import pytest
from tests.support.bench import COMMAND_SECONDS_MAX, run_quick

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def test_a_quick_run_measures_every_row_and_leaves_nothing_behind(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run_quick("bench-analytics", tmp_path / "data", figures)
    rows = json.loads(figures.read_text())["rows"]
    beginnings = (
        "Aggregates: 3,000 events of 20 products",
        "Aggregates: 300 events, orders among them",
        "Aggregates: 150 events, a product each",
        "Commit to readable, 100 events/s",
        "RecentEvents: 150 items",
        "Archive: 3,000 events, beside Quix Streams",
        "Rebuild of the aggregates from 3,000",
        "Archive: 1 times SIGKILL",
        "Archive: one of two workers killed",
        "The same in threes, 20 ms a write",
        "Memory over 1,500 events",
    )
    assert len(rows) == len(beginnings)
    for row, beginning in zip(rows, beginnings, strict=True):
        assert row["name"].startswith(beginning)
        assert row["faults"] == []
        assert row["verdict"] == "measured"
        assert row["figures"].get("rate", 1) > 0
    beside = [row["figures"] for row in rows if "ratio" in row["figures"]]
    for one in beside:
        ours = one["perCore"] if "peerRate" in one else one["rate"]
        assert one["ratio"] == ours / one["floor"]
    delays = [row["figures"] for row in rows if "p50Ms" in row["figures"]]
    assert all(0 < one["p50Ms"] <= one["p99Ms"] for one in delays)
    assert not (tmp_path / "data" / "bench").exists()
