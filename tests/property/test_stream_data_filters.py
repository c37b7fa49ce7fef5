"""Filters on data against their plain meaning: read, merged, indexed, or written out again."""

import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
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

from shopstream_notifications import predicates
from shopstream_notifications import shelves as shelves_module
from shopstream_notifications.errors import BadFilter
from shopstream_notifications.fields import FIELDS
from shopstream_notifications.filters import Filter, compile_filter
from shopstream_notifications.intervals import Intervals, place
from shopstream_notifications.predicates import HIGHEST, LOWEST, Between, Predicate
from shopstream_notifications.records import Record
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


@settings(max_examples=150, deadline=None)
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


class Crowd:
    """Filters and events so close to each other that an event meets many of them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def filter(self) -> Filter:
        pick = self.chance.choice
        path = pick(("stock", "threshold", "name", "sku", "items.productId", "items.quantity"))
        wish = [
            self._asked(path) for path in {path, *([pick(("name", "stock"))] * pick((0, 0, 1)))}
        ]
        return compiled(
            wish,
            types=pick(("", "product.*", "product.created,order.paid", "inventory.*,order.*")),
            seller=pick(("", "", *SELLERS)),
            subject=pick(("", "", *SUBJECTS)),
        )

    def _asked(self, path: str) -> Asked:
        pick = self.chance.choice
        if path in ("stock", "threshold", "items.quantity"):
            operator = pick(("eq", "in", "ge", "lt"))
            numbers = [Decimal(self.chance.randrange(5)) for _ in range(1 + 2 * (operator == "in"))]
            return Asked(path, operator, tuple(numbers))
        operator = pick(("eq", "in", "prefix", "prefix"))
        words = [pick(("a", "ab", "abc", "b")) for _ in range(1 + 2 * (operator == "in"))]
        null = (None,) * (path == "sku" and operator == "in")
        return Asked(path, operator, (*words, *null))

    def event(self) -> Record:
        pick, number = self.chance.choice, self.chance.randrange
        items = [{"productId": pick(("a", "abc")), "quantity": number(5)} for _ in range(number(3))]
        data = {
            "stock": number(5),
            "threshold": pick((None, number(5))),
            "name": pick(("", "a", "ab", "abcd")),
            "sku": pick((None, "b", "ab")),
            "items": items,
        }
        event_type = pick((*TYPES, "order.paid"))
        seller, subject = pick((*SELLERS, "none")), pick((*SUBJECTS, "none"))
        return event(event_type, carried(event_type, data), seller=seller, subject=subject)


@pytest.mark.parametrize("seed", range(8))
def test_the_index_finds_what_a_look_at_every_filter_finds(seed: int) -> None:
    crowd = Crowd(seed)
    shelves: Shelves[int] = Shelves()
    known: dict[Filter, int] = {}
    met = 0
    for number in range(300):
        try:
            wanted = crowd.filter()
        except BadFilter:
            continue
        if wanted not in known:
            known[wanted] = number
            shelves.add(wanted, number)
        if crowd.chance.random() < 0.3:
            gone = crowd.chance.choice(list(known))
            shelves.remove(gone)
            del known[gone]
        record = crowd.event()
        found = shelves.matching(record)
        assert sorted(found) == sorted(n for wanted, n in known.items() if wanted.matches(record))
        met += len(found)
    assert met > 300, "else nothing was tried"
    for wanted in known:
        shelves.remove(wanted)
    assert not shelves
    assert not shelves._rooms, "nothing is left of filters that are gone"


def test_an_event_is_held_against_what_it_matches_not_against_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand price alerts in one currency, and as many price bands."""
    checked = 0

    def counted(predicate: Predicate, data: Any) -> bool:
        nonlocal checked
        checked += 1
        return original(predicate, data)

    original = predicates.holds
    monkeypatch.setattr(shelves_module, "holds", counted)
    shelves: Shelves[int] = Shelves()
    for number in range(1_000):
        price = ("data.price", f"lt.{number}")
        shelves.add(compile_filter("", "", "", [("data.currency", "eq.EUR"), price]), number)
        band = [("data.price", f"ge.{number}"), ("data.price", f"lt.{number + 1}")]
        shelves.add(compile_filter("", "", "", [*band, ("data.name", "in.x,y")]), -number)
        shelves.add(compile_filter("", "", "", band), 10_000 + number)
    record = event("product.created", {"currency": "EUR", "price": 989, "name": "x"})
    found = shelves.matching(record)
    assert sorted(found) == [-989, *range(990, 1_000), 10_989]
    assert len(found) <= checked + 1 <= len(found) + 3 * CROWD
    checked = 0
    assert shelves.matching(event("product.created", {"price": 5_000})) == []
    assert checked == 0


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
@example(Decimal("-0"), 0)
def test_places_on_the_scale_are_in_the_order_of_numbers(one: Decimal, other: Decimal) -> None:
    low, high = sorted((one, other))
    assert 0 <= place(low) <= place(high) < 2**64
    if low == high:
        assert place(low) == place(high)


ends = st.tuples(numbers, st.sampled_from((0, 1)), numbers, st.sampled_from((0, -1)))


@settings(max_examples=100, deadline=None)
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


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(FIELDS)) | st.text(max_size=20),
            st.sampled_from(("eq", "in", "prefix", "gt", "le", "", "x")),
            st.text(alphabet='a,"\\0-.un\ud800\x00', max_size=12) | st.text(max_size=12),
        ),
        max_size=3,
    )
)
def test_any_text_is_a_filter_or_is_refused_by_name(asked_for: list[tuple[str, str, str]]) -> None:
    data = [(f"data.{path}", f"{operator}.{operand}") for path, operator, operand in asked_for]
    try:
        wanted = compile_filter("", "", "", data)
    except BadFilter as error:
        refused = error.parameter
    else:
        refused = ""
    if refused:
        assert refused in {"data", *(name[: len(refused)] for name, _ in data)}
        return
    matched = wanted.matches(event("product.created", {"name": "a", "stock": 0, "tags": ["n"]}))
    assert matched in (True, False)
    assert compile_filter("", "", "", wanted.parameters()[bool(wanted.types) :]) == wanted


def test_every_field_of_every_type_can_be_filtered_on() -> None:
    for event_type in EVENT_TYPES:
        assert any(event_type in field.types for field in FIELDS.values())
