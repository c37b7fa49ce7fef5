"""The relay under 1,000 seeded schedules of crashes, pauses, losses and late arrivals.

`python -m tests.simulation` runs more of them, and one again with its trace.
"""

import re
from collections.abc import Iterator
from typing import Final

import pytest
from tests.simulation.__main__ import app
from tests.simulation.pieces import Piece
from tests.simulation.schedule import run, silence
from typer.testing import CliRunner

SCHEDULES: Final = 1_000
#: How the violation begins that is found without a piece.
PREVENTS: Final = {
    Piece.PROGRESS_RECORD: "doubled",
    Piece.FENCING: "doubled",
    Piece.COMMIT_ONLY_AGAIN: "doubled",
    Piece.ORDER_BY_SEQ: "reordered",
    Piece.ALL_UNDELETED_ROWS: "reordered",
    Piece.OLDER_ROWS_FIRST: "split",
    Piece.SETTLED_BEFORE_LISTED: "doubled",
    Piece.WHOLE_TRANSACTIONS: "split",
    Piece.LSO_WAIT: "doubled",
    Piece.OUTBOX_IDENTITY: "lost",
    Piece.TRANSACTIONAL_ID: "doubled",
    # A part of the next batch is committed without its record, or that without its part.
    Piece.NEW_PRODUCER: "progress lists",
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with silence():
        yield


@pytest.mark.parametrize("part", range(4))
def test_in_a_thousand_schedules_nothing_is_lost_doubled_reordered_or_left(part: int) -> None:
    for seed in range(part, SCHEDULES, 4):
        outcome = run(seed)
        assert outcome.violation is None, str(outcome)


@pytest.mark.parametrize("piece", Piece, ids=lambda piece: piece.name.lower())
def test_without_a_safety_piece_the_violation_it_prevents_is_found(piece: Piece) -> None:
    """Not just any: a model that is broken fails in every schedule, in a way of its own."""
    # Other schedules than above, and many: NEW_PRODUCER shows in one of two thousand.
    seeds = range(3 * SCHEDULES, 9 * SCHEDULES)
    found = (run(seed, piece).violation or "" for seed in seeds)
    assert any(violation.startswith(PREVENTS[piece]) for violation in found), piece.value


def test_the_same_seed_gives_the_same_trace() -> None:
    for seed in range(20):
        assert str(run(seed)) == str(run(seed))


def test_the_command_names_failing_seeds_and_shows_one_again() -> None:
    without = ["--without", "progress_record"]
    found = CliRunner().invoke(app, ["--schedules", "20", *without])
    assert found.exit_code == 1
    again = re.search(r"--seed (\d+) --trace --without PROGRESS_RECORD", found.stdout)
    assert again is not None, found.stdout
    shown = CliRunner().invoke(app, ["--seed", again[1], "--trace", *without])
    assert shown.exit_code == 1
    assert shown.stdout == f"{run(int(again[1]), Piece.PROGRESS_RECORD)}\n"
    assert CliRunner().invoke(app, ["--schedules", "5"]).exit_code == 0


def test_a_failure_is_told_with_its_seed_and_what_happened() -> None:
    outcome = next(o for o in (run(s, Piece.PROGRESS_RECORD) for s in range(99)) if o.violation)
    told = str(outcome)
    assert told.startswith(f"seed {outcome.seed}\n")
    assert "is killed" in told
    assert told.splitlines()[-1] == f"VIOLATION: {outcome.violation}"
