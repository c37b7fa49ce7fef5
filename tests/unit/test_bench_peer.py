"""A peer program of the benchmarks: told what it must know, waited for, never left behind."""

import sys

import psutil
import pytest

from shopstream_stack.bench.peer import running_peer
from shopstream_stack.errors import StackError

ECHO = "import sys; w = sys.stdin.readline().split(); print(*w, flush=True); sys.stdin.read()"


def _python(program: str) -> tuple[str, str, str]:
    return (sys.executable, "-c", program)


def test_a_peer_is_told_its_line_and_ended_with_the_block() -> None:
    with running_peer("The peer", _python(ECHO), "ready") as process:
        assert process.poll() is None
    assert not psutil.pid_exists(process.pid)


@pytest.mark.parametrize("line", ["", "not ready"])
def test_a_peer_that_says_something_else_has_not_started(line: str) -> None:
    with (
        pytest.raises(StackError, match="The peer did not start"),
        running_peer("The peer", _python(ECHO), line),
    ):
        pass


def test_a_peer_that_says_nothing_is_waited_for_no_longer_than_told() -> None:
    silent = _python("import sys; sys.stdin.read()")
    with (
        pytest.raises(StackError, match="The peer did not start"),
        running_peer("The peer", silent, "", ready_seconds_max=0.2),
    ):
        pass


def test_a_peer_that_ended_by_itself_has_measured_nothing() -> None:
    once = _python("print('ready', flush=True)")
    with (
        pytest.raises(StackError, match="The peer ended by itself"),
        running_peer("The peer", once, "") as process,
    ):
        process.wait(10)
