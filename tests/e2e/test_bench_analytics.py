"""`shopstream bench-analytics --quick`: every row is measured, and every event was there once."""

from pathlib import Path

import pytest
from tests.support.bench import COMMAND_SECONDS_MAX, assert_begin, run_quick

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def test_a_quick_run_measures_every_row_and_leaves_nothing_behind(tmp_path: Path) -> None:
    rows = run_quick("bench-analytics", tmp_path)
    assert_begin(
        rows,
        "Aggregates: 3,000 events of 20 products",
        "Aggregates: 300 events, orders among them",
        "Aggregates: 150 events, a product each",
        "Commit to readable, 100 events/s",
        "100 events of 1 products",
        "100 events of 100 products",
        "RecentEvents: 150 items",
        "Archive: 3,000 events, beside Quix Streams",
        "Rebuild of the aggregates from 3,000",
        "Archive: 1 times SIGKILL",
        "Archive: one of two workers killed",
        "The same in threes, 20 ms a write",
        "Memory over 1,500 events",
        "A backlog of 300 events",
        "A backlog of 1,000 events",
    )
    for one in (row["figures"] for row in rows if "ratio" in row["figures"]):
        ours = one["perCore"] if "peerRate" in one else one["rate"]
        assert one["ratio"] == ours / one["floor"]
    lines = {point["line"] for row in rows for point in row["points"]}
    assert lines == {"aggregates worker", "archive worker"}
