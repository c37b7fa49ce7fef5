"""`shopstream load-gate --quick`: real k6, streams beside it, every row right, verify holds."""

import json
from pathlib import Path

import pytest
from tests.support.bench import COMMAND_SECONDS_MAX, run_quick

from shopstream_stack.verify.journals import lines_of

#: What verify waits for, and the disk, are not what this is about.
QUICKER = {"SHOPSTREAM_POSTGRES_FSYNC": "false", "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS": "1"}

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def test_a_quick_run_loads_and_verifies_the_whole_system_and_leaves_nothing(tmp_path: Path) -> None:
    left = ("bench-figures", "load-gate")
    rows = run_quick("load-gate", tmp_path, environ=QUICKER, left=left)
    rest, statements, streams, verified = rows
    assert rest["figures"]["requests"] > 30
    assert rest["figures"]["errorShare"] == 0
    # Each request asks the database at least once.
    assert statements["figures"]["rate"] >= rest["figures"]["rate"]
    assert 0 < statements["figures"]["p50Ms"] <= statements["figures"]["p95Ms"]
    # Ten streams a seller: each event comes to all ten.
    assert streams["figures"]["deliveries"] % 10 == 0
    assert streams["figures"]["deliveries"] > 0
    assert verified["figures"]["acknowledged"] > 10
    (folder,) = (tmp_path / "data" / "load-gate").glob("gate-*")
    journal = [line for _, line in lines_of(folder / f"{folder.name}.jsonl")]
    kinds = {line["kind"] for line in journal}
    assert kinds == {"run", "client", "connected", "received", "write"}
    assert json.loads((folder / "verify.json").read_text())["holds"]
    assert not (tmp_path / "data" / "load-gate" / "system").exists()
