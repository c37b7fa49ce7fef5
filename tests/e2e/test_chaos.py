"""`shopstream chaos`: its short form holds, and whatever ends it, nothing of it stays running."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.support.components import machine_environ
from tests.support.system import wait_until

from shopstream_stack.chaos.place import Place, chaos_settings, running
from shopstream_stack.chaos.schedule import QUICK
from shopstream_stack.ports import PortReservations, reserved_ports
from shopstream_stack.process import ProcessSpec
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System

COMMAND = str(Path(sys.executable).with_name("shopstream"))
COMMAND_SECONDS_MAX = 600
#: Some in each moment; more would only be more for starts and `verify` to wait for.
WRITES_PER_SECOND = 12

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def environ(data: Path) -> dict[str, str]:
    return {
        **machine_environ(),
        "SHOPSTREAM_DATA_DIR": str(data),
        # Processes are killed here, never the machine.
        "SHOPSTREAM_POSTGRES_FSYNC": "false",
        "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS": "1",
    }


def pids(data: Path) -> dict[str, int]:
    """What the command has started, by name."""
    files = (data / "chaos" / "system" / "run").glob("*.json")
    return {path.stem: json.loads(path.read_text())["pid"] for path in files}


def left_of(data: Path) -> list[str]:
    """Processes that have this data folder in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(data) in word for word in words):
            found.append(" ".join(process.cmdline()))
    return found


def test_the_short_form_recovers_from_every_fault_and_verify_holds(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "chaos", "--quick", "--rate", str(WRITES_PER_SECOND)],
        env=environ(tmp_path),
        text=True,
        capture_output=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "chaos").glob("chaos-*")
    report = json.loads((folder / "report.json").read_text())
    assert report["holds"]
    assert report["verify"]["exitCode"] == 0
    assert [fault["kind"] for fault in report["faults"]] == [fault.kind for fault in QUICK]
    stopped = next(fault for fault in report["faults"] if fault["kind"] == "stop")
    measured = {measure["what"] for measure in stopped["measures"]}
    # It was the leader that was stopped: else neither would have been looked at.
    assert {"another publishes", "the woken one gives up"} <= measured
    assert report["totals"]["connections"] > report["totals"]["clients"]
    assert (folder / "timeline.png").stat().st_size > 0
    assert (folder / report["journal"]).stat().st_size > 0
    assert not (tmp_path / "chaos" / "system").exists()
    assert left_of(tmp_path) == []


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [COMMAND, "chaos", "--quick"],
        env=environ(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: {"kafka", "postgres"} <= pids(tmp_path).keys(), "components to be started")
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=COMMAND_SECONDS_MAX)
    assert child.returncode != 0, said
    assert "Interrupted" in said
    assert "failed" not in said
    assert left_of(tmp_path) == []
    assert not (tmp_path / "chaos" / "system").exists()


@contextmanager
def a_place(data: Path, ports: PortReservations) -> Iterator[Place]:
    settings = chaos_settings(StackSettings.load(environ(data)), ports)
    with running(System(settings), ports) as place:
        yield place


def by_hand(data: Path) -> ProcessSpec:
    """A process that belongs to no list of names."""
    return ProcessSpec(
        name="archive-by-hand",
        kind="service",
        argv=(sys.executable, "-c", "import time; time.sleep(600)", str(data)),
        environ={},
        ports=(),
        check=lambda: None,
    )


def test_whatever_runs_or_stands_still_when_a_run_is_interrupted_is_ended(tmp_path: Path) -> None:
    def interrupted(ports: PortReservations) -> None:
        with a_place(tmp_path, ports) as place:
            place.start("postgres")
            place.signal("postgres", signal.SIGSTOP)
            place.system.runner.spawn(by_hand(tmp_path))
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with reserved_ports() as ports, pytest.raises(KeyboardInterrupt):
        interrupted(ports)
    assert left_of(tmp_path) == []
    assert not (tmp_path / "chaos" / "system").exists()
    assert signal.getsignal(signal.SIGINT) is handler
