"""Topics that were made again, as verify names what is of their earlier lives (rule 13)."""

from shopstream_shared.boundaries import Boundary
from shopstream_shared.generations import TopicEpoch
from shopstream_stack.verify.generations import generations
from shopstream_stack.verify.lives import Lives, item_key, real_place
from shopstream_stack.verify.log import Place

ORDERS = "shop.orders"
LIVES = Lives({ORDERS: (TopicEpoch(0, "a", 3), TopicEpoch(2, "b", 2), TopicEpoch(5, "c", 3))})


def test_each_partition_of_each_life_has_a_place_of_its_own_and_is_found_by_it() -> None:
    places = {
        LIVES.place(ORDERS, one.epoch, partition): (one.epoch, partition)
        for one in LIVES.epochs[ORDERS]
        for partition in range(one.partitions)
    }
    assert len(places) == 8
    for place, (epoch, partition) in places.items():
        assert real_place(place) == (ORDERS, partition)
        assert LIVES.epoch(place) == epoch
    assert LIVES.place(ORDERS, 5, 1) == Place(ORDERS, 1)
    assert LIVES.place("shop.products", 0, 1) == Place("shop.products", 1)
    earlier = dict(LIVES.earlier())
    assert earlier.keys() == places.keys() - {Place(ORDERS, n) for n in range(3)}
    assert earlier[LIVES.place(ORDERS, 2, 1)] == "b"


def test_items_are_known_by_the_place_of_their_source_whatever_life_it_is_of() -> None:
    names = LIVES.names()
    found = [item_key(names, f"seller#a#b#{name}#1") for name in (ORDERS, "shop.orders@5", "x")]
    old = LIVES.place(ORDERS, 0, 1).partition
    assert found == [f"seller#a#b#{ORDERS}#{old}", f"seller#a#b#{ORDERS}#1", "seller#a#b#x#1"]


def test_an_earlier_life_comes_before_a_later_one_and_both_before_the_present() -> None:
    places = {LIVES.place(ORDERS, one.epoch, 0): one.topic_id for one in LIVES.epochs[ORDERS]}
    order = {part: number for _, part, _, _, number in generations(places, ())}
    first, second, present = (order[place.partition] for place in places)
    assert first < second < present


def test_more_partitions_divide_the_life_of_the_topic_that_got_them_and_no_other() -> None:
    grown = [Boundary(ORDERS, "b", 2, (7,)), Boundary("shop.products", "p", 2, (9,))]
    lives = ((0, 0, "a"), (2, 0, "b"), (2, 1, "b"), (5, 0, "c"))
    ids = {LIVES.place(ORDERS, epoch, number): topic_id for epoch, number, topic_id in lives}
    found: dict[int, list[tuple[int, int]]] = {}
    order = []
    for _, part, begun, ended, generation in generations(ids, grown):
        found.setdefault(part, []).append((begun, ended))
        order.append(generation)
    first, *grew, present = found.values()
    whole = [(0, 2**63 - 1)]
    assert (first, present) == (whole, whole)
    # The new partition holds nothing below the boundary.
    assert grew == [[(0, 7), (7, 2**63 - 1)], [(0, 0), (0, 2**63 - 1)]]
    assert order[1:3] == order[3:5]
    assert order[0] < order[1] < order[2] < order[5]
