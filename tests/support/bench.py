"""A benchmark in its short form, run as a person would, and what each of its rows must be."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.components import machine_environ

from shopstream_stack.bench.figures import Found
from shopstream_stack.bench.names import Form
from shopstream_stack.bench.result import Row

COMMAND: Final = str(Path(sys.executable).with_name("shopstream"))
#: On what it would have been measured.
MACHINE: Final = {"processors": "2 x a model"}
COMMAND_SECONDS_MAX: Final = 400


def run_quick(
    name: str,
    folder: Path,
    *,
    environ: Mapping[str, str] | None = None,
    left: Sequence[str] = ("bench-figures",),
) -> list[dict[str, Any]]:
    """Run it on a data folder of its own and return its rows.

    Its exit code must be 0, each row correct and with a rate where it has one, and nothing left
    behind but the file of the run, or what ``left`` names.
    """
    data, figures = folder / "data", folder / "figures.json"
    done = subprocess.run(
        [COMMAND, name, "--quick", "--json", str(figures)],
        env={**machine_environ(), **(environ or {}), "SHOPSTREAM_DATA_DIR": str(data)},
        text=True,
        capture_output=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows: list[dict[str, Any]] = json.loads(figures.read_text())["rows"]
    for row in rows:
        assert row["faults"] == [], row["name"]
        assert row["verdict"] == "measured", row["name"]
        assert row["figures"].get("rate", 1) > 0, row["name"]
        # Of so little the system may have counted no tick of processor time.
        assert all(point["cost"] >= 0 for point in row["points"]), row["name"]
        if "p50Ms" in row["figures"] and "p99Ms" in row["figures"]:
            assert 0 < row["figures"]["p50Ms"] <= row["figures"]["p99Ms"], row["name"]
    assert sorted(path.name for path in data.iterdir()) == sorted(left)
    return rows


def assert_begin(rows: Sequence[dict[str, Any]], *beginnings: str) -> None:
    """The rows are these and no others, in this order."""
    names = [row["name"] for row in rows]
    assert len(names) == len(beginnings), names
    for name, beginning in zip(names, beginnings, strict=True):
        assert name.startswith(beginning), (name, beginning)


def found_of(
    *rows: Row,
    bench: str = "api",
    form: Form = "full",
    commit: str = "0123456789ab",
    started_at: str = "2026-11-22T10:00:00.000000Z",
    notes: Sequence[str] = (),
    busy_percent: float = 1.0,
    machine: Mapping[str, str] = MACHINE,
) -> Found:
    """What a run of a benchmark would have left."""
    return Found(
        bench=bench,
        title=f"The {bench}",
        form=form,
        commit=commit,
        started_at=started_at,
        seconds=1.0,
        machine=machine,
        busy_percent=busy_percent,
        versions={"Kafka": "4.3.1"},
        notes=list(notes),
        rows=list(rows),
    )
