"""The analytics workers under 1,000 seeded schedules of crashes, zombies, losses and late arrivals.

`python -m tests.simulation --of consumers` runs more of them, and one again with its trace.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import pytest
from tests.simulation.__main__ import app
from tests.simulation.consumers.exhaustive import BLOWS, search
from tests.simulation.consumers.pieces import Piece
from tests.simulation.consumers.schedule import run
from tests.simulation.schedule import silence
from typer.testing import CliRunner

from shopstream_analytics.worker.sinks import WORKERS, WorkerName

SCHEDULES: Final = 1_000
#: Of them, so that none comes near the time limit of a test on a busy machine.
PARTS: Final = 8
#: How the violation begins that is found without a piece.
PREVENTS: Final[Mapping[Piece, str | tuple[str, ...]]] = {
    Piece.CHECKPOINT_CONDITION: "set back",
    Piece.UPTO_CONDITION: "counted wrong",
    Piece.TRIM_BY_OLD_ITEM: "counted wrong",
    # Whoever takes a jump for a batch skips what the log lost in between, and does not say so.
    Piece.POSITION_CHAIN: ("counted wrong", "not listed", "archived wrong"),
    Piece.IF_NONE_MATCH: ("replaced", "chain broken", "archived wrong"),
    Piece.CONTINUE_AT_ITS_NEXT: ("archived wrong", "chain broken"),
    Piece.LETTER_SCAN: "letters doubled",
    Piece.LETTER_FENCING: "letters doubled",
    Piece.COMMIT_AFTER_SINK: tuple(f"{name}: the group's" for name in ("aggregates", "recent")),
    Piece.SEEK_TO_CHECKPOINT: "left",
    Piece.LOG_RANGE: ("left", "counted wrong"),
    Piece.TOPIC_ID: ("counted wrong", "archived wrong", "left", "letter lost"),
}
#: The others need two faults, a log that lost records, or a topic that was made again.
SEEN_AT_ONE_STEP: Final = (
    Piece.CHECKPOINT_CONDITION,
    Piece.UPTO_CONDITION,
    Piece.IF_NONE_MATCH,
    Piece.CONTINUE_AT_ITS_NEXT,
    Piece.LETTER_SCAN,
    Piece.LETTER_FENCING,
    Piece.COMMIT_AFTER_SINK,
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with silence():
        yield


@pytest.mark.parametrize("part", range(PARTS))
def test_in_a_thousand_schedules_every_event_is_stored_once_and_nothing_is_left(part: int) -> None:
    for seed in range(part, SCHEDULES, PARTS):
        outcome = run(seed)
        assert outcome.violation is None, str(outcome)


@pytest.mark.parametrize("piece", Piece, ids=lambda piece: piece.name.lower())
def test_without_a_safety_piece_the_violation_it_prevents_is_found(piece: Piece) -> None:
    """Not just any: a model that is broken fails in every schedule, in a way of its own."""
    # Other schedules than above; POSITION_CHAIN shows in one of three hundred.
    seeds = range(SCHEDULES, 2 * SCHEDULES)
    found = (run(seed, piece).violation or "" for seed in seeds)
    assert any(violation.startswith(PREVENTS[piece]) for violation in found), piece.value


def test_the_same_seed_gives_the_same_trace() -> None:
    for seed in range(20):
        assert str(run(seed)) == str(run(seed))


def test_the_command_names_failing_seeds_and_shows_one_again() -> None:
    without = ["--without", "upto_condition"]
    found = CliRunner().invoke(app, ["--schedules", "40", "--seed", "1000", *without])
    assert found.exit_code == 1
    again = re.search(r"--of consumers --seed (\d+) --trace --without", found.stdout)
    assert again is not None, found.stdout
    shown = CliRunner().invoke(app, ["--seed", again[1], "--trace", *without])
    assert shown.exit_code == 1
    assert shown.stdout == f"{run(int(again[1]), Piece.UPTO_CONDITION)}\n"
    assert CliRunner().invoke(app, ["--of", "consumers", "--schedules", "5"]).exit_code == 0
    assert CliRunner().invoke(app, ["--of", "relay", "--without", "upto_condition"]).exit_code == 2


@pytest.mark.parametrize("sink", WORKERS)
def test_no_fault_at_any_step_of_two_rounds_loses_or_doubles_anything(sink: WorkerName) -> None:
    result = search(sink)
    assert not result.violations, str(result)
    # All of it was searched: a script that meets no calls would find nothing either.
    assert result.calls >= 6
    assert result.runs == 1 + result.calls * len(BLOWS)


@pytest.mark.parametrize("piece", SEEN_AT_ONE_STEP, ids=lambda piece: piece.name.lower())
def test_one_fault_at_one_step_is_enough_to_miss_most_pieces(piece: Piece) -> None:
    found = [one for sink in WORKERS for one in search(sink, piece).violations]
    assert any((one.violation or "").startswith(PREVENTS[piece]) for one in found)
