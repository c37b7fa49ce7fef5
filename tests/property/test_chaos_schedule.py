"""Whatever the seed, the length and the kinds: a schedule is a function of them and keeps order."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shopstream_stack.chaos.schedule import (
    CALM_SECONDS,
    FAULTS,
    FIRST_SECONDS,
    SETTLE_SECONDS,
    schedule,
)

seeds = st.integers(0, 2**64)
minutes = st.floats(0.1, 30, allow_nan=False)
kinds = st.sets(st.sampled_from(sorted(FAULTS)), min_size=1)


@given(seeds, minutes, kinds)
def test_the_same_arguments_give_the_same_faults(seed: int, length: float, names: set[str]) -> None:
    assert schedule(seed, length, names) == schedule(seed, length, sorted(names))


@given(seeds, minutes, kinds)
def test_faults_come_one_at_a_time_inside_the_run(
    seed: int, length: float, names: set[str]
) -> None:
    planned = schedule(seed, length, names)
    for fault in planned:
        assert fault.at >= FIRST_SECONDS
        assert fault.at + fault.seconds <= length * 60 - CALM_SECONDS + 1e-3
    for before, after in pairwise(planned):
        assert after.at >= before.at + before.seconds + SETTLE_SECONDS - 1e-3


@given(seeds, minutes, kinds)
def test_only_the_named_kinds_come_each_once_a_round_at_targets_of_its_own(
    seed: int, length: float, names: set[str]
) -> None:
    planned = schedule(seed, length, names)
    assert all(fault.target in FAULTS[fault.kind].targets for fault in planned)
    for start in range(0, len(planned), len(names)):
        round_of_kinds = [fault.kind for fault in planned[start : start + len(names)]]
        assert len(set(round_of_kinds)) == len(round_of_kinds)
        assert set(round_of_kinds) <= names


@given(seeds, kinds, st.floats(0.1, 15), st.floats(0.1, 15))
def test_a_longer_run_begins_like_the_shorter_one(
    seed: int, names: set[str], one: float, other: float
) -> None:
    short, long = sorted((one, other))
    beginning = schedule(seed, short, names)
    assert schedule(seed, long, names)[: len(beginning)] == beginning
