"""`shopstream bench-relay --quick`: everything is measured, and each event was there once."""

import json
from pathlib import Path

import pytest
from tests.support.bench import COMMAND_SECONDS_MAX, run_quick

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def test_a_quick_run_measures_latency_drain_and_churn_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    figures = tmp_path / "figures.json"
    run_quick("bench-relay", tmp_path / "data", figures)
    latency, own_part, drain, churn = json.loads(figures.read_text())["rows"]
    assert own_part["figures"]["p50Ms"] > 0
    for row in (latency, drain, churn):
        assert row["verdict"] == "measured"
        assert row["faults"] == []
        assert row["figures"]["rate"] > 0
    assert 0 < latency["figures"]["p50Ms"] <= latency["figures"]["p99Ms"]
    assert drain["figures"]["ratio"] == drain["figures"]["rate"] / drain["figures"]["floor"]
    assert churn["figures"]["sizeMaxMiB"] > 0
    assert not (tmp_path / "data" / "bench").exists()
