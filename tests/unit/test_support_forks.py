"""Services that tests start end with whoever started them."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from tests.support.forks import abandoned


@pytest.fixture
def service() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


def test_a_service_whose_report_nobody_can_read_is_abandoned(service: int) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as report:
        assert abandoned(service, report.fileno())


def test_one_that_has_ended_is_not() -> None:
    ours, theirs = os.pipe()
    with (
        os.fdopen(ours, "rb"),
        os.fdopen(theirs, "wb") as report,
        subprocess.Popen(["true"]) as process,
    ):
        assert not abandoned(process.pid, report.fileno())
