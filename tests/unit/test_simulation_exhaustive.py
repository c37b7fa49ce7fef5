"""The abstract protocol of two relays, searched whole; and what each piece keeps from happening."""

import pytest
from tests.simulation.exhaustive import MODELLED, search
from tests.simulation.pieces import Piece


def test_no_interleaving_of_two_failing_relays_loses_or_doubles_and_none_gets_stuck() -> None:
    result = search()
    assert result.violation is None, str(result)
    # All of it was searched: a model that stops early would find nothing either.
    assert result.states > 5_000


@pytest.mark.parametrize("piece", MODELLED, ids=lambda piece: piece.name.lower())
def test_without_a_piece_the_shortest_way_to_a_violation_is_shown(piece: Piece) -> None:
    result = search(piece)
    assert result.violation is not None
    assert str(result).splitlines()[-1] == f"VIOLATION: {result.violation}"
    assert len(result.steps) < 30
