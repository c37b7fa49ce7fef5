"""`shopstream bench-relay --quick`: everything is measured, and each event was there once."""

from pathlib import Path

import pytest
from tests.support.bench import COMMAND_SECONDS_MAX, assert_begin, run_quick

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def test_a_quick_run_measures_latency_drain_churn_and_sizes_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    rows = run_quick("bench-relay", tmp_path)
    assert_begin(
        rows,
        "Commit to a reader",
        "Of that Kafka's own part",
        "Drain of 5,000 events",
        "10,000 events through the outbox",
        "A backlog of 500 events",
        "A backlog of 2,000 events",
    )
    _, own_part, drain, churn, *sizes = (row["figures"] for row in rows)
    assert own_part["p50Ms"] > 0
    assert drain["ratio"] == drain["rate"] / drain["floor"]
    assert churn["sizeMaxMiB"] > 0
    assert all("cpuMicros" in one for one in sizes)
