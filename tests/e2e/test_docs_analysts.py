"""Every block of docs/analysts.md runs as it stands, and answers its question."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from tests.support.components import machine_environ
from tests.support.system import LocalSystem

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docs" / "analysts.md").read_text(encoding="utf-8")
SECONDS_MAX: Final = 240
MARK: Final = "=====block====="


def blocks() -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def run(environ: Mapping[str, str]) -> list[str]:
    """What each block printed, all in one shell that ends at the first failure."""
    script = "set -euo pipefail\n" + f"echo {MARK}\n".join(blocks())
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=dict(environ),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return [part.strip() for part in done.stdout.split(MARK)]


@pytest.mark.timeout(SECONDS_MAX + 60)
def test_the_five_questions_are_answered_by_what_stands_in_the_document(
    system: LocalSystem, tmp_path: Path
) -> None:
    seller = f"analyst-{uuid4().hex[:8]}"
    assert [line[:5] for line in TEXT.splitlines() if line.startswith("## ")] == [
        f"## {number}." for number in range(1, 6)
    ]
    printed = run(
        {
            **machine_environ(),
            **system.settings.service_environ("analytics"),
            "API": system.api_url,
            "ANALYTICS": system.analytics_url,
            "SELLER": seller,
            "FILES": str(tmp_path),
        }
    )
    _, _, last, sold, sheet, archive, week, *rebuilt = printed

    types = [line.split()[1] for line in last.splitlines()]
    assert types[:3] == ["order.paid", "order.confirmed", "inventory.reserved"] or set(types) >= {
        "order.paid",
        "order.confirmed",
        "order.created",
    }
    hours, top, values = map(json.loads, sold.splitlines())
    assert hours["totals"]["revenueMinor"] == {"USD": 19_998}
    assert [one["units"] for one in top["products"]] == [2]
    assert values["totals"]["currencies"]["USD"]["averageMinor"] == 19_998
    assert sheet.startswith("start,events,orders,units")
    assert seller in archive
    assert "19998" in archive
    assert "199.98" in week
    assert "differ" in rebuilt[0].lower()
