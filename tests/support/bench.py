"""A benchmark in its short form, run as a person would."""

import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

from tests.support.components import machine_environ

COMMAND: Final = str(Path(sys.executable).with_name("shopstream"))
COMMAND_SECONDS_MAX: Final = 400


def run_quick(
    name: Literal["bench-api", "bench-relay", "bench-sse", "bench-analytics"],
    data: Path,
    figures: Path,
) -> None:
    """Run it on a data folder of its own; its exit code must be 0."""
    done = subprocess.run(
        [COMMAND, name, "--quick", "--json", str(figures)],
        env={**machine_environ(), "SHOPSTREAM_DATA_DIR": str(data)},
        text=True,
        capture_output=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
