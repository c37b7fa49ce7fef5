"""`shopstream bench-sse --quick`: every row is measured, and each stream had every event once."""

from pathlib import Path

import pytest
from tests.support.bench import COMMAND_SECONDS_MAX, assert_begin, run_quick

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def test_a_quick_run_measures_every_row_and_leaves_nothing_behind(tmp_path: Path) -> None:
    rows = run_quick("bench-sse", tmp_path)
    assert_begin(
        rows,
        "20 idle connections",
        "20 connections, ids of 3 partitions",
        "20 connections, 20 events/s",
        "2 of 20 connections do not read",
        "20 connections, 10 filters",
        "10 cut at once, beside 10",
        "20 connections, ids of 7 partitions",
        "Beside stock sse-starlette",
        "20 connections, 2 workers, one in 5 matches",
        "20 connections, 2 workers, 20 events/s",
        "Cost at 20 connections",
    )
    found = {row["name"].split(",")[0]: row["figures"] for row in rows}
    assert found["10 cut at once"]["seconds"] > 0
    stock = found["Beside stock sse-starlette"]
    assert stock["ratio"] == stock["rate"] / stock["floor"]
    assert stock["rate"] == rows[1]["figures"]["rate"]
