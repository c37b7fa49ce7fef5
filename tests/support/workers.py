"""How the suite is shared out among worker processes (`pytest -n 2`, as `make test` runs it).

A unit of work is a file, for what a module makes for its tests is made once; the tests of the whole
system are one unit, so that no two systems run side by side on one small machine, and nothing heavy
beside a benchmark. What takes longest begins first, so that no worker is at its end long before
another. Each worker has its own components on its own ports.
"""

import os
import signal
from types import FrameType
from typing import Any, Final

import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

#: One after the other, on one worker: all they do is done by many processes at once.
WHOLE_SYSTEM: Final = ("tests/e2e/", "tests/browser/")
#: Files that take half a minute and more on a free machine; all others follow in their order.
LONGEST_FIRST: Final = (
    "tests/integration/test_analytics_workers.py",
    "tests/integration/test_stack_command.py",
    "tests/integration/test_api_relay.py",
    "tests/integration/test_stream_faults.py",
    "tests/integration/test_analytics_service.py",
    "tests/integration/test_analytics_outages.py",
    "tests/integration/test_topics.py",
    "tests/integration/test_api_relay_faults.py",
    "tests/property/test_api_described.py",
    "tests/integration/test_verify_planted.py",
    "tests/integration/test_stack_stream_ids.py",
    "tests/integration/test_api_search_plans.py",
    "tests/property/test_api_model.py",
)


def unit_of(nodeid: str) -> str:
    """What a test runs together with, by its node id: its file, or the whole system."""
    if nodeid.startswith(WHOLE_SYSTEM):
        return "whole system"
    return nodeid.partition("::")[0]


def order(nodeid: str) -> int:
    """Where a test's unit stands among the units: the lower the earlier."""
    unit = unit_of(nodeid)
    if unit == "whole system":
        return -1
    return LONGEST_FIRST.index(unit) if unit in LONGEST_FIRST else len(LONGEST_FIRST)


class Units(LoadScopeScheduling):
    """Hands out units in the order in which their tests were collected."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for another, which hands them out."""
    return hasattr(config, "workerinput")


def end_on_signals(config: pytest.Config) -> None:
    """A run that is told to end (Ctrl-C, `timeout`, a cancelled job) stops what it started.

    Without this SIGTERM ends Python at once, and brokers and services go on without an owner. With
    workers it is they who have started something: the first signal only tells them to end, and the
    run ends when they have; a second one ends it at once.
    """
    if is_worker(config):
        # A terminal's Ctrl-C reaches all; each worker shall be told once.
        signal.signal(signal.SIGINT, _nothing)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    elif config.getoption("numprocesses", 0):
        signal.signal(signal.SIGINT, _tell_workers)
        signal.signal(signal.SIGTERM, _tell_workers)
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN: that would be handed down to every process that a test starts."""


def _tell_workers(number: int, frame: FrameType | None) -> Any:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    workers = psutil.Process(os.getpid()).children()
    if not workers:
        raise KeyboardInterrupt
    for worker in workers:
        worker.terminate()
