"""How long a child that keeps dying waits for its next life."""

from shopstream_shared.children import (
    GOOD_LIFE_SECONDS,
    PAUSE_FIRST_SECONDS,
    PAUSE_LAST_SECONDS,
    Pauses,
)


def test_pauses_double_up_to_their_bound_while_lives_are_short() -> None:
    pauses = Pauses()
    waited = [pauses.after(life_seconds=0.1) for _ in range(10)]
    assert waited[:3] == [PAUSE_FIRST_SECONDS, PAUSE_FIRST_SECONDS * 2, PAUSE_FIRST_SECONDS * 4]
    assert waited[-1] == max(waited) == PAUSE_LAST_SECONDS


def test_after_a_good_life_the_pause_is_the_first_again() -> None:
    pauses = Pauses()
    for _ in range(10):
        pauses.after(life_seconds=0.1)
    assert pauses.after(life_seconds=GOOD_LIFE_SECONDS + 1) == PAUSE_FIRST_SECONDS
    assert pauses.after(life_seconds=0.1) == PAUSE_FIRST_SECONDS * 2
