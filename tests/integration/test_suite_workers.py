"""A run of the suite with workers that is told to end: each worker ends what it has started."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.components import machine_environ
from tests.support.system import wait_until

PROJECT = Path(__file__).parents[2]
END_SECONDS_MAX = 60
#: With xdist alone: each process would import all plugins, for two seconds of a core.
PYTEST = {"PYTHONPATH": str(PROJECT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
CONFTEST = """
from tests.support import workers

def pytest_configure(config):
    workers.end_on_signals(config)
"""
#: Its end takes a moment, as that of a broker does.
ENDLESS = """
import os, pathlib, threading, time
import pytest

@pytest.fixture(scope="session")
def component():
    here = pathlib.Path(__file__).parent
    (here / f"started-{os.getpid()}").touch()
    yield
    time.sleep(0.3)
    (here / f"ended-{os.getpid()}").touch()

def test_that_never_ends(component):
    threading.Event().wait()
"""


def marks(folder: Path, what: str) -> set[str]:
    return {path.name.removeprefix(what) for path in folder.glob(f"{what}*")}


@pytest.mark.parametrize(
    ("tell", "number"),
    [(os.kill, signal.SIGTERM), (os.killpg, signal.SIGINT)],
    ids=["told alone", "Ctrl-C in a terminal, which tells all"],
)
def test_a_run_that_is_told_to_end_ends_what_its_workers_started(
    tmp_path: Path, tell: Callable[[int, int], None], number: signal.Signals
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name in ("one", "two"):
        (tmp_path / f"test_{name}.py").write_text(ENDLESS)
    with subprocess.Popen(
        [sys.executable, *["-m", "pytest", "-p", "xdist.plugin", "-n", "2", "-c", "pytest.ini"]],
        cwd=tmp_path,
        env={**machine_environ(), **PYTEST},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        try:
            wait_until(lambda: len(marks(tmp_path, "started-")) == 2, "both workers to be at work")
            tell(run.pid, number)
            said, _ = run.communicate(timeout=END_SECONDS_MAX)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, said
    assert marks(tmp_path, "ended-") == marks(tmp_path, "started-")
