"""How the suite is shared out among workers."""

from pathlib import Path

import pytest
from tests.support import workers

PROJECT = Path(__file__).parents[2]


def test_a_file_runs_on_one_worker_and_the_whole_system_on_one() -> None:
    unit = workers.unit_of("tests/unit/test_a.py::test_x[1-a::b]")
    assert unit == workers.unit_of("tests/unit/test_a.py::test_y")
    assert unit != workers.unit_of("tests/unit/test_b.py::test_x")
    assert workers.unit_of("tests/e2e/test_a.py::test_x") == workers.unit_of(
        "tests/browser/test_b.py::test_y"
    )


def test_the_longest_come_first_and_the_whole_system_before_them() -> None:
    last = "tests/unit/test_support_workers.py::test_x"
    long = [f"{path}::test_x" for path in workers.LONGEST_FIRST]
    whole = "tests/e2e/test_chaos.py::test_x"
    assert sorted([last, *reversed(long), whole], key=workers.order) == [whole, *long, last]


@pytest.mark.parametrize("path", [*workers.LONGEST_FIRST, *workers.WHOLE_SYSTEM])
def test_what_is_named_is_there(path: str) -> None:
    assert (PROJECT / path).exists()
