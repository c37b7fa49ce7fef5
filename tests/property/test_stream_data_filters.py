"""Filters on data against their plain meaning: read, merged, indexed, or written out again."""

import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.data_filters import (
    SELLERS,
    SUBJECTS,
    Asked,
    asked,
    datas,
    event,
    plain_meaning,
    record_of,
)

from shopstream_notifications.errors import BadFilter
from shopstream_notifications.fields import FIELDS
from shopstream_notifications.filters import Filter, compile_filter
from shopstream_notifications.intervals import Intervals, place
from shopstream_notifications.predicates import HIGHEST, LOWEST, Between
from shopstream_notifications.shelves import CROWD, Shelves
from shopstream_shared.events.registry import EVENT_TYPES

TYPES = ("product.created", "product.updated", "order.created", "inventory.updated")
wishes = st.lists(asked(), min_size=1, max_size=4)


def compiled(wish: list[Asked], *, types: str = "", seller: str = "", subject: str = "") -> Filter:
    return compile_filter(types, seller, subject, [entry.parameter for entry in wish])


def carried(event_type: str, data: dict[str, Any]) -> dict[str, Any]:
    """What an event of this type may have of it."""
    names = {path.partition(".")[0] for path, f in FIELDS.items() if event_type in f.types}
    return {name: value for name, value in data.items() if name in names}


@settings(max_examples=250, deadline=None)
@given(wishes, st.lists(st.tuples(st.sampled_from(TYPES), datas()), min_size=1, max_size=8))
def test_a_filter_decides_as_its_parameters_say(
    wish: list[Asked], events: list[tuple[str, dict[str, Any]]]
) -> None:
    events = [(event_type, carried(event_type, data)) for event_type, data in events]
    try:
        wanted = compiled(wish)
    except BadFilter:
        # Refused only when nothing can match.
        assert not any(plain_meaning(wish, data) for _, data in events)
        return
    for event_type, data in events:
        assert wanted.matches(event(event_type, data)) == plain_meaning(wish, data)


@settings(max_examples=150, deadline=None)
@given(wishes, st.randoms())
def test_equal_wishes_are_equal_filters_and_can_be_written_out(
    wish: list[Asked], chance: random.Random
) -> None:
    try:
        wanted = compiled(wish, types="product.*,order.*", seller="s1")
    except BadFilter:
        return
    again = [*wish, chance.choice(wish)]
    chance.shuffle(again)
    assert compiled(again, types="order.*,product.*", seller="s1") == wanted
    assert hash(compiled(again, types="order.*,product.*", seller="s1")) == hash(wanted)
    routing = {name: text for name, text in wanted.parameters() if not name.startswith("data.")}
    data = [(name, text) for name, text in wanted.parameters() if name.startswith("data.")]
    read_back = compile_filter(routing["types"], routing["sellerId"], "", data)
    assert read_back == wanted
    assert read_back.parameters() == wanted.parameters()


filters = st.tuples(
    wishes,
    st.sampled_from(("", "product.*", "order.created", "inventory.*,product.updated")),
    st.sampled_from(("", *SELLERS)),
    st.sampled_from(("", *SUBJECTS)),
)
events = st.tuples(
    st.sampled_from(TYPES), datas(), st.sampled_from(SELLERS), st.sampled_from(SUBJECTS)
)


@settings(max_examples=100, deadline=None)
@given(st.lists(filters, max_size=30), st.lists(events, min_size=1, max_size=10), st.randoms())
def test_the_index_finds_what_a_look_at_every_filter_finds(
    asked_for: list[Any], happened: list[Any], chance: random.Random
) -> None:
    shelves: Shelves[int] = Shelves()
    known: dict[Filter, int] = {}
    for number, (wish, types, seller, subject) in enumerate(asked_for):
        try:
            wanted = compiled(wish, types=types, seller=seller, subject=subject)
        except BadFilter:
            continue
        if wanted not in known:
            known[wanted] = number
            shelves.add(wanted, number)
        if chance.random() < 0.2:
            gone = chance.choice(sorted(known, key=lambda w: known[w]))
            shelves.remove(gone)
            del known[gone]
    for event_type, data, seller, subject in happened:
        record = event(event_type, carried(event_type, data), seller=seller, subject=subject)
        found = shelves.matching(record)
        assert sorted(found) == sorted(n for wanted, n in known.items() if wanted.matches(record))
    for wanted in known:
        shelves.remove(wanted)
    assert not shelves
    assert not shelves._rooms, "nothing is left of filters that are gone"


@pytest.mark.parametrize("seed", range(5))
def test_a_crowded_value_sends_filters_elsewhere_and_none_is_missed(seed: int) -> None:
    chance = random.Random(seed)
    shelves: Shelves[int] = Shelves()
    wishes = {
        number: compile_filter(
            "product.created",
            "",
            "",
            [("data.currency", "eq.EUR"), ("data.price", f"lt.{number}"), *more],
        )
        for number in range(4 * CROWD)
        for more in [[("data.name", f"prefix.{'ab'[number % 2]}")] if number % 3 == 0 else []]
    }
    for number in chance.sample(sorted(wishes), len(wishes)):
        shelves.add(wishes[number], number)
    for price in (-1, 0, 17, 40, 100):
        for currency in ("EUR", "USD"):
            record = event("product.created", {"currency": currency, "price": price, "name": "abc"})
            expected = [number for number, wanted in wishes.items() if wanted.matches(record)]
            assert sorted(shelves.matching(record)) == expected
    for number in chance.sample(sorted(wishes), len(wishes)):
        shelves.remove(wishes[number])
    assert not shelves._rooms


numbers = st.one_of(
    st.integers(min_value=-4, max_value=4),
    st.integers(),
    st.decimals(allow_nan=False, allow_infinity=False),
    # Neighbours on one float, and on two.
    st.sampled_from([2**53, 2**53 + 1, 2**53 + 2, Decimal("0.1"), Decimal("0.10000000000000001")]),
    st.sampled_from([Decimal("-0"), Decimal("1E-400"), Decimal("1E+400"), -(10**400), 10**400]),
)


@settings(max_examples=150, deadline=None)
@given(numbers, numbers)
def test_places_on_the_scale_are_in_the_order_of_numbers(one: Decimal, other: Decimal) -> None:
    low, high = sorted((one, other))
    assert 0 <= place(low) <= place(high) < 2**64
    if low == high:
        assert place(low) == place(high)


ends = st.tuples(numbers, st.sampled_from((0, 1)), numbers, st.sampled_from((0, -1)))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(ends, st.sampled_from(("both", "low", "high"))), max_size=20),
    st.lists(numbers, min_size=1, max_size=10),
    st.randoms(),
)
def test_exactly_the_intervals_that_hold_a_number_are_found(
    asked_for: list[Any], looked_up: list[Decimal], chance: random.Random
) -> None:
    intervals: Intervals[int] = Intervals()
    there: dict[int, Between] = {}
    price = FIELDS["price"]
    for number, ((low, above, high, below), sides) in enumerate(asked_for):
        begin = LOWEST if sides == "high" else (low, above)
        end = HIGHEST if sides == "low" else (high, below)
        if begin < end:
            there[number] = Between(price, begin, end)
            intervals.add(there[number], number)
    edges = [end[0] for interval in there.values() for end in (interval.low, interval.high)]
    for value in [*looked_up, *(e for e in edges if abs(e) != Decimal("Infinity"))]:
        expected = [number for number, interval in there.items() if interval.accepts(value)]
        assert sorted(intervals.holding(value)) == expected
    for number in chance.sample(sorted(there), len(there)):
        intervals.remove(there.pop(number), number)
        expected = [n for n, interval in there.items() if interval.accepts(looked_up[0])]
        assert sorted(intervals.holding(looked_up[0])) == expected
    assert not intervals
    assert not intervals._levels


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_bytes_that_are_no_event_match_nothing_and_break_nothing(value: bytes) -> None:
    text = value.decode("utf-8", "ignore").encode()
    record = record_of("product.created", b'{"data":' + text)
    assert not compile_filter("", "", "", [("data.stock", "ge.0")]).matches(record)


def test_every_field_of_every_type_can_be_filtered_on() -> None:
    for event_type in EVENT_TYPES:
        assert any(event_type in field.types for field in FIELDS.values())
