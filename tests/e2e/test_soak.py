"""`shopstream soak --quick`: maximum, steady load, memory, lags and verify are looked at."""

import json
from pathlib import Path

import pytest
from tests.support.bench import COMMAND_SECONDS_MAX, run_quick

#: What verify waits for, and the disk, are not what this is about.
QUICKER = {"SHOPSTREAM_POSTGRES_FSYNC": "false", "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS": "1"}
PROCESSES = ("analytics", "analytics aggregates", "analytics archive", "analytics recent")

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def test_a_quick_run_looks_at_every_process_and_everything_arrives(tmp_path: Path) -> None:
    rows = run_quick("soak", tmp_path, environ=QUICKER, left=("bench-figures", "soak"))
    found = {row["name"]: row["figures"] for row in rows}
    maximum, steady, *memory, end = found
    assert found[steady]["rate"] < found[maximum]["rate"]
    assert found[steady]["errors"] == 0
    assert memory == [f"Memory of {name}" for name in (*PROCESSES, "api", "notifications")]
    assert all(found[name]["mib"] > 10 for name in memory)
    assert found[end]["seconds"] > 0
    (folder,) = (tmp_path / "data" / "soak").glob("soak-*")
    report = json.loads((folder / "report.json").read_text())
    assert report["verify_code"] == 0
    assert report["samples"]
    assert json.loads((folder / "verify.json").read_text())["holds"]
    assert all((folder / name).stat().st_size > 0 for name in ("timeline.png", "memory.png"))
