"""How far a replay may read where a topic got more partitions (protocol rule 14)."""

from collections import defaultdict
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from shopstream_shared.boundaries import Boundary, up_to
from shopstream_shared.log_range import Part
from shopstream_shared.topics import ORDERS, PRODUCTS

GROWN = Boundary(PRODUCTS, "id", 4, (5, 0, 7))
UNTIL = {(PRODUCTS, 0): 9, (PRODUCTS, 1): 9, (PRODUCTS, 2): 9, (PRODUCTS, 3): 9, (ORDERS, 0): 9}


def test_below_a_boundary_its_topic_is_read_up_to_it_and_others_are_read_on() -> None:
    assert up_to([GROWN], {(PRODUCTS, 0): 4, (PRODUCTS, 2): 7}, UNTIL) == {
        (PRODUCTS, 0): 5,
        (PRODUCTS, 1): 0,
        (PRODUCTS, 2): 7,
        (PRODUCTS, 3): 0,
        (ORDERS, 0): 9,
    }


def test_past_a_boundary_everything_is_read_on() -> None:
    assert up_to([GROWN], {(PRODUCTS, 0): 5, (PRODUCTS, 2): 7}, UNTIL) == UNTIL


def test_what_is_wanted_may_end_before_the_boundary() -> None:
    until = {(PRODUCTS, 0): 2, (PRODUCTS, 1): 0, (PRODUCTS, 2): 7, (PRODUCTS, 3): 0}
    assert up_to([GROWN], {}, until) == until
    assert up_to([GROWN], until, until) == until


@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
def test_a_replay_by_slices_of_any_size_keeps_the_order_of_each_key(
    writes: list[tuple[int, bool]], growth: list[int], chance: Random
) -> None:
    """Keys are placed by number of partitions; ``True`` means: more partitions before this."""
    log: dict[Part, list[tuple[int, int]]] = defaultdict(list)
    partitions, boundaries = 2, []
    more = list(growth)
    for number, (key, grow) in enumerate(writes):
        if grow and more:
            ends = tuple(len(log[PRODUCTS, p]) for p in range(partitions))
            partitions += more.pop()
            boundaries.append(Boundary(PRODUCTS, "id", partitions, ends))
        log[PRODUCTS, key % partitions].append((key, number))
    until = {(PRODUCTS, p): len(log[PRODUCTS, p]) for p in range(partitions)}
    at: dict[Part, int] = {}
    seen: list[tuple[int, int]] = []
    while any(at.get(part, 0) < end for part, end in until.items()):
        stop = up_to(boundaries, at, until)
        part = chance.choice([p for p in until if at.get(p, 0) < stop[p]])
        begin = at.get(part, 0)
        at[part] = chance.randint(begin + 1, stop[part])
        seen += log[part][begin : at[part]]
    assert sorted(number for _, number in seen) == list(range(len(writes)))
    for key in range(31):
        numbers = [number for k, number in seen if k == key]
        assert numbers == sorted(numbers)
