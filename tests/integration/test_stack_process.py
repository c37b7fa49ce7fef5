"""Processes of the stack: what is left of a killed one, early ends, refusals to stop."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.support.system import wait_until

from shopstream_stack.errors import StackError, StartFailedError
from shopstream_stack.ports import PortReservations, is_free, reserved_ports
from shopstream_stack.process import (
    LOG_BYTES_MAX,
    NotHealthyError,
    PortUse,
    ProcessSpec,
    Runner,
    started_mark,
)

# A parent with a worker in its group, as a service with several processes has it.
PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print("ready", flush=True)
time.sleep(300)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(300)
"""


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    made = Runner(tmp_path)
    yield made
    for name in made.names():
        made.stop(name, seconds_max=0)


def spec_of(runner: Runner, program: str, port: int = 1, **more: float) -> ProcessSpec:
    def check() -> None:
        if "ready" not in runner.tail("it"):
            raise NotHealthyError("it is not ready")

    return ProcessSpec(
        name="it",
        kind="service",
        argv=(sys.executable, "-c", program),
        environ={"PATH": os.defpath},
        ports=() if port == 1 else (PortUse(port, "SHOPSTREAM_IT_PORT"),),
        check=check,
        start_seconds_max=more.get("start_seconds_max", 30.0),
    )


def test_a_new_start_first_ends_what_a_killed_parent_left(runner: Runner) -> None:
    spec = spec_of(runner, PARENT)
    runner.start(spec)
    first = runner.living("it")
    assert first is not None
    wait_until(lambda: psutil.Process(first.pid).children(), "the worker")
    (worker,) = psutil.Process(first.pid).children()
    runner.kill("it")
    assert started_mark(worker.pid) is not None
    runner.start(spec)
    assert started_mark(worker.pid) is None


def test_stop_ends_the_workers_too(runner: Runner) -> None:
    runner.start(spec_of(runner, PARENT))
    record = runner.living("it")
    assert record is not None
    wait_until(lambda: psutil.Process(record.pid).children(), "the worker")
    (worker,) = psutil.Process(record.pid).children()
    assert runner.stop("it")
    assert started_mark(worker.pid) is None
    assert runner.exit_codes[record.pid] == -15


def test_a_process_deaf_to_sigterm_is_killed_after_its_time(runner: Runner) -> None:
    runner.start(spec_of(runner, DEAF))
    record = runner.living("it")
    assert record is not None
    assert runner.stop("it", seconds_max=0.3)
    assert started_mark(record.pid) is None
    assert runner.names() == []


def test_an_early_end_is_told_with_what_the_process_said(runner: Runner) -> None:
    program = "import sys; sys.exit('the disk is full')"
    with pytest.raises(StartFailedError) as error:
        runner.start(spec_of(runner, program))
    assert "it did not start: it ended early" in str(error.value)
    assert "the disk is full" in str(error.value)


def test_a_start_that_does_not_become_healthy_is_told_with_the_reason(runner: Runner) -> None:
    program = "import time; time.sleep(300)"
    with pytest.raises(StartFailedError, match="not healthy within 0 s: it is not ready"):
        runner.start(spec_of(runner, program, start_seconds_max=0.3))


def test_a_log_grown_too_long_is_put_aside_at_the_next_start(runner: Runner) -> None:
    log = runner.log_path("it")
    log.parent.mkdir(parents=True)
    with log.open("wb") as sparse:
        sparse.truncate(LOG_BYTES_MAX + 1)
    runner.start(spec_of(runner, PARENT))
    assert log.stat().st_size < LOG_BYTES_MAX
    assert log.with_suffix(".log.1").stat().st_size == LOG_BYTES_MAX + 1


def test_reserved_ports_are_free_distinct_and_below_the_ephemeral_range() -> None:
    with reserved_ports() as ours, reserved_ports() as theirs:
        taken = [ports.take() for ports in (ours, theirs) for _ in range(20)]
        assert len(set(taken)) == len(taken)
        assert all(port < 32_768 for port in taken)
        assert all(is_free(port) for port in taken)


def test_a_reserved_port_is_nobody_elses_until_it_is_given_back() -> None:
    first = PortReservations()
    port = first.take()
    second = PortReservations(port, port)
    with pytest.raises(StackError, match="No free port"):
        second.take()
    first.close()
    assert second.take() == port
    second.close()


def test_who_yields_does_so_with_all_that_it_starts_and_with_its_whole_session(
    runner: Runner,
) -> None:
    runner.start(replace(spec_of(runner, PARENT), nice=7))
    record = runner.living("it")
    assert record is not None
    process = psutil.Process(record.pid)
    wait_until(process.children, "the worker")
    assert [one.nice() for one in (process, *process.children())] == [7, 7]
    # Only Linux has it, where it is built in; there it is what counts.
    session = Path(f"/proc/{record.pid}/autogroup")
    if session.exists():
        assert session.read_text().split()[1:] == ["nice", "7"]


def test_who_does_not_yield_is_as_its_starter(runner: Runner) -> None:
    runner.start(spec_of(runner, PARENT))
    record = runner.living("it")
    assert record is not None
    assert psutil.Process(record.pid).nice() == psutil.Process().nice()
