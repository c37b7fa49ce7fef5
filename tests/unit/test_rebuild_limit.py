"""A rebuild that hangs is ended: by its limit, or by who no longer waits for it."""

import threading
import time
from pathlib import Path

import psutil
import pytest

from shopstream_stack import rebuild
from shopstream_stack.console import Silent
from shopstream_stack.errors import StackError
from shopstream_stack.rebuild import Limit
from shopstream_stack.settings import StackSettings

#: A program of Python's own that says nothing and never ends.
HANGS = ("timeit", "-n", "1", "-r", "1", "__import__('time').sleep(600)")
FAR = 600.0


def called(tmp_path: Path, limit: Limit) -> None:
    settings = StackSettings.load({"SHOPSTREAM_DATA_DIR": str(tmp_path), "PATH": "/bin"})
    rebuild.call(settings, HANGS[1:], Silent(), limit)


def left() -> list[int]:
    return [one.pid for one in psutil.Process().children() if HANGS[0] in one.cmdline()]


@pytest.fixture(autouse=True)
def _a_program_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "MODULE", HANGS[0])


def test_a_rebuild_that_hangs_is_ended_at_its_limit(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="was ended"):
        called(tmp_path, Limit(0.3))
    assert left() == []


def test_a_rebuild_that_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    limit = Limit(FAR)
    refusals: list[StackError] = []

    def run() -> None:
        try:
            called(tmp_path, limit)
        except StackError as error:
            refusals.append(error)

    waiting = threading.Thread(target=run, daemon=True)
    waiting.start()
    end = time.monotonic() + 30.0
    while not left() and time.monotonic() < end:
        time.sleep(0.01)
    assert len(left()) == 1
    limit.stop.set()
    waiting.join(30.0)
    assert len(refusals) == 1
    assert left() == []
