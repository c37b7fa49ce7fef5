"""The grammar of filters."""

import json
from typing import Any

import pytest
from msgspec import inspect
from tests.support.data_filters import event, record_of
from tests.support.events import golden

from shopstream_notifications import fields
from shopstream_notifications.data_filters import (
    NUMBER_LENGTH_MAX,
    PREDICATE_LENGTH_MAX,
    PREDICATES_MAX,
    TEXT_LENGTH_MAX,
    VALUES_MAX,
)
from shopstream_notifications.errors import BadFilter
from shopstream_notifications.filters import VALUE_LENGTH_MAX, Filter, compile_filter
from shopstream_shared.events.registry import EVENT_TYPES


def types(text: str) -> frozenset[str]:
    return compile_filter(text, "", "").types or frozenset()


def test_an_exact_type_is_itself() -> None:
    assert types("product.created") == frozenset({"product.created"})


def test_a_prefix_stands_for_all_types_below_it() -> None:
    assert types("order.*") == frozenset(n for n in EVENT_TYPES if n.startswith("order."))


def test_the_warnings_belong_to_product_though_they_ride_with_the_inventory() -> None:
    assert "product.low_stock" in types("product.*")


@pytest.mark.parametrize("text", ["", "*", "*,product.created", "product.*,order.*,inventory.*"])
def test_all_types_are_the_same_wish_as_none_named(text: str) -> None:
    assert compile_filter(text, "", "") == Filter()


def test_a_list_is_a_union_in_any_order_and_with_repeats() -> None:
    wanted = compile_filter("order.paid, product.created,order.paid", "s1", "")
    assert wanted == compile_filter("product.created,order.paid", "s1", "")
    assert hash(wanted) == hash(compile_filter("product.created,order.paid", "s1", ""))


@pytest.mark.parametrize(
    "bad",
    [
        *("product", "product.", "product.*.x", "*.created", "prod*", "product.crea*", "**", "."),
        *(",", "product.created,", "PRODUCT.created", "user.*", "product.unknown", "pro.*"),
        *("product.created;order.paid", "product.created\n", ".*", "a" * 5_000),
    ],
)
def test_a_malformed_or_unknown_pattern_is_refused(bad: str) -> None:
    with pytest.raises(BadFilter) as refused:
        compile_filter(bad, "", "")
    assert refused.value.parameter == "types"


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(BadFilter):
        types(",".join(["product.created"] * 65))


@pytest.mark.parametrize("parameter", ["sellerId", "subject"])
def test_a_value_has_a_bound(parameter: str) -> None:
    text = "x" * (VALUE_LENGTH_MAX + 1)
    with pytest.raises(BadFilter) as refused:
        compile_filter(
            "", text if parameter == "sellerId" else "", text if parameter == "subject" else ""
        )
    assert refused.value.parameter == parameter


def on_data(*asked: tuple[str, str], types: str = "") -> Filter:
    return compile_filter(types, "", "", [(f"data.{path}", text) for path, text in asked])


def matches(path: str, text: str, value: Any) -> bool:
    """Whether an event of some type that has the field, with this value, is wanted."""
    name, _, inner = path.partition(".")
    data = {name: [{inner: value}] if inner else value}
    wanted = on_data((path, text))
    return wanted.matches(event(min(wanted.types or EVENT_TYPES), data))


@pytest.mark.parametrize(
    ("path", "text", "yes", "no"),
    [
        ("name", "eq.Cup", ["Cup"], ["cup", "Cup ", "", "C"]),
        ("name", "eq.10", ["10"], ["10.0", "010"]),
        ("name", "eq.a.b,c", ["a.b,c"], ["a"]),
        ("name", 'eq."null"', ["null"], ["", '"null"']),
        ("name", 'eq."\\u00e4\\n"', ["ä\n"], ["a"]),
        ("description", "eq.null", [None], ["null", ""]),
        ("description", 'eq.""', [""], [None, " "]),
        ("stock", "eq.10", [10], [-10, 100, 0]),
        ("stock", "eq.10.0", [10], [1]),
        ("price", "eq.99.990", [99.99], [99.991, 99]),
        ("name", "in.a,b", ["a", "b"], ["a,b", "c"]),
        ("name", 'in."a,b",c', ["a,b", "c"], ["a", "b"]),
        ("sku", 'in.null,"null",x', [None, "null", "x"], ["y", ""]),
        ("stock", "in.1,2.0,-3", [1, 2, -3], [0, 3]),
        ("name", "prefix.Te", ["Te", "Test"], ["te", "T", ""]),
        ("sku", "prefix.null", ["null", "nullify"], [None, "nul"]),
        ("stock", "gt.4", [5, 6], [4, 3]),
        ("stock", "ge.4.5", [5], [4]),
        ("stock", "lt.4.5", [4], [5]),
        ("stock", "le.4.5", [4], [5]),
        ("stock", "gt.-0.5", [0], [-1]),
        ("delta", "lt.0", [-1], [0, 1]),
        ("threshold", "le.5", [5, 0], [6, None]),
        ("price", "gt.0.1", [0.11, 1], [0.1]),
        ("price", "le.12.50", [12.5, 12], [12.51]),
        ("items.quantity", "ge.3", [3], [2]),
        ("items.productId", "eq.p", ["p"], ["q"]),
    ],
)
def test_an_operator_compares_as_its_field_says(
    path: str, text: str, yes: list[Any], no: list[Any]
) -> None:
    assert [matches(path, text, value) for value in yes] == [True] * len(yes)
    assert [matches(path, text, value) for value in no] == [False] * len(no)


def test_a_list_holds_what_one_of_its_elements_holds_even_if_each_another() -> None:
    both = on_data(("tags", "eq.red"), ("tags", "prefix.bl"), types="product.updated")
    assert both.matches(event("product.updated", {"tags": ["red", "blue"]}))
    assert not both.matches(event("product.updated", {"tags": ["red"]}))
    assert not both.matches(event("product.updated", {"tags": []}))
    assert not both.matches(event("product.updated", {}))


def test_amounts_that_no_float_tells_apart_are_told_apart() -> None:
    assert not matches("totalMinor", "eq.9007199254740992", 9007199254740993)
    assert matches("totalMinor", "gt.9007199254740992", 9007199254740993)
    exact = on_data(("price", "eq.0.1"))
    assert exact.matches(record_of("product.created", b'{"data":{"price":0.10}}'))
    assert not exact.matches(
        record_of("product.created", b'{"data":{"price":0.1000000000000000000001}}')
    )


@pytest.mark.parametrize(
    ("path", "text", "remedy"),
    [
        ("prise", "eq.1", "priceMinor"),
        ("", "eq.1", "there are"),
        ("items", "eq.1", "items.productId"),
        ("items.0.quantity", "eq.1", "items.quantity"),
        ("stock", "5", "eq, in, gt, ge, lt, le"),
        ("stock", "=5", "eq, in, gt"),
        ("stock", "near.5", "does not begin with an operator"),
        ("stock", "EQ.5", "eq, in, gt"),
        ("stock", "prefix.5", "eq, in, gt"),
        ("price", "prefix.1", "prefix does not fit this field; a field that is a number"),
        ("name", "lt.b", "eq, in, prefix"),
        ("stock", "lt.NaN", "12.50"),
        ("stock", "eq.Infinity", "12.50"),
        ("price", "ge.1e3", "12.50"),
        ("price", "ge. 1", "12.50"),
        ("price", "ge.\u0661", "12.50"),
        ("price", 'eq."1"', "12.50"),
        ("price", "eq.true", "12.50"),
        ("price", "lt.null", "12.50"),
        ("price", "lt." + "1" * (NUMBER_LENGTH_MAX + 1), str(NUMBER_LENGTH_MAX)),
        ("stock", "eq.4.5", "whole numbers"),
        ("stock", "in.4,4.5", "whole numbers"),
        ("stock", "eq.null", "never null"),
        ("name", "in.a,null", '"null"'),
        ("status", "eq.payed", "paid"),
        ("status", "in.paid,shiped", "shipped"),
        ("status", "prefix.x", "shipped"),
        ("cancelReason", "eq.expird", "expired"),
        ("name", "eq.", '""'),
        ("name", "in.", "element"),
        ("name", "in.a,", "element"),
        ("name", "in.,a", "element"),
        ("name", 'in."a"b', "element"),
        ("name", 'in."a', "element"),
        ("name", 'eq."a', "JSON"),
        ("name", 'eq."a"b', "JSON"),
        ("name", 'eq."\\ud800"', "JSON"),
        ("name", "prefix.", "empty"),
        ("name", 'prefix.""', "empty"),
        ("name", "eq." + "x" * (TEXT_LENGTH_MAX + 1), str(TEXT_LENGTH_MAX)),
        ("name", "prefix." + "x" * (TEXT_LENGTH_MAX + 1), str(TEXT_LENGTH_MAX)),
        ("name", "in." + "x," * PREDICATE_LENGTH_MAX + "x", str(PREDICATE_LENGTH_MAX)),
        ("x" * 5_000, "eq.1", "there are"),
    ],
)
def test_what_is_no_predicate_is_refused_with_what_to_write(
    path: str, text: str, remedy: str
) -> None:
    with pytest.raises(BadFilter) as refused:
        on_data((path, text))
    assert remedy in str(refused.value)
    assert refused.value.parameter == f"data.{path}"[:85]
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize(
    "asked",
    [
        [("stock", "gt.5"), ("stock", "lt.6")],
        [("stock", "ge.5"), ("stock", "lt.5")],
        [("price", "gt.5"), ("price", "le.5")],
        [("price", "gt.5"), ("price", "lt.5")],
        [("status", "eq.paid"), ("status", "eq.shipped")],
        [("stock", "eq.3"), ("stock", "gt.3")],
        [("name", "prefix.a"), ("name", "prefix.ba")],
        [("name", "prefix.a"), ("name", "in.b,c")],
        [("threshold", "eq.null"), ("threshold", "ge.0")],
    ],
)
def test_what_nothing_can_hold_together_is_refused(asked: list[tuple[str, str]]) -> None:
    with pytest.raises(BadFilter, match="leave one of them out") as refused:
        on_data(*asked)
    assert refused.value.parameter == f"data.{asked[0][0]}"


def test_a_field_that_the_types_do_not_have_is_refused_with_those_that_do() -> None:
    with pytest.raises(BadFilter, match=r"product\.created") as refused:
        on_data(("tags", "eq.red"), types="order.*")
    assert refused.value.parameter == "data.tags"
    with pytest.raises(BadFilter, match="beside the others"):
        on_data(("tags", "eq.red"), ("customerId", "eq.c1"))


@pytest.mark.parametrize(
    ("types", "text", "words"),
    [
        ("product.*", "eq.shipped", "active, archived, draft"),
        ("product.created,product.deleted", "in.shipped,paid", "active, archived, draft"),
        ("order.*", "prefix.arch", "cancelled, confirmed"),
    ],
)
def test_a_word_that_none_of_the_types_ever_has_is_refused_with_those_they_have(
    types: str, text: str, words: str
) -> None:
    with pytest.raises(BadFilter, match=f"is one of .*{words}") as refused:
        on_data(("status", text), types=types)
    assert refused.value.parameter == "data.status"


@pytest.mark.parametrize(
    ("types", "path", "text"),
    [
        ("product.*", "status", "in.shipped,active"),
        ("product.*,order.paid", "status", "eq.shipped"),
        ("*", "status", "eq.shipped"),
        ("order.refunded", "cancelReason", "eq.null"),
    ],
)
def test_a_word_that_one_of_the_types_has_is_taken(types: str, path: str, text: str) -> None:
    assert on_data((path, text), types=types).data


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("stock", "gt.4"), ("stock", "lt.10")], [("stock", "le.9"), ("stock", "ge.5")]),
        ([("stock", "ge.1"), ("stock", "ge.3")], [("stock", "gt.2.5")]),
        ([("stock", "ge.5"), ("stock", "le.5.9")], [("stock", "eq.5")]),
        ([("price", "ge.5"), ("price", "le.5.00")], [("price", "eq.5")]),
        ([("price", "lt.5"), ("price", "le.5")], [("price", "lt.5.0")]),
        ([("price", "gt.5"), ("price", "ge.5")], [("price", "gt.5")]),
        ([("name", "in.b,a,b")], [("name", 'in."a","b"')]),
        ([("name", "in.a")], [("name", "eq.a")]),
        ([("name", "in.a,b"), ("name", "in.b,c")], [("name", "eq.b")]),
        ([("name", "prefix.a"), ("name", "prefix.ab")], [("name", "prefix.ab")]),
        ([("name", "prefix.a"), ("name", "in.b,ac")], [("name", "eq.ac")]),
        ([("cancelReason", "prefix.e")], [("cancelReason", "eq.expired")]),
        ([("tags", "eq.a"), ("tags", "eq.b")], [("tags", "eq.b"), ("tags", "eq.a")]),
        ([("stock", "eq.-0")], [("stock", "eq.0.0")]),
    ],
)
def test_equal_wishes_are_equal_filters(
    one: list[tuple[str, str]], other: list[tuple[str, str]]
) -> None:
    assert on_data(*one) == on_data(*other)
    assert hash(on_data(*one)) == hash(on_data(*other))


def test_types_without_the_field_are_left_out_of_the_wish() -> None:
    assert on_data(("tags", "eq.a")) == on_data(("tags", "eq.a"), types="product.*")
    assert on_data(("sellerId", "eq.a")).types is None
    assert on_data(("delta", "lt.0"), types="product.*").types == frozenset(
        {"product.low_stock", "product.out_of_stock"}
    )


def test_the_number_of_predicates_and_of_values_is_bounded() -> None:
    bounds = [("tags", f"eq.{n}") for n in range(PREDICATES_MAX)]
    assert len(on_data(*bounds).data) == PREDICATES_MAX
    with pytest.raises(BadFilter, match=str(PREDICATES_MAX)):
        on_data(*bounds, ("stock", "ge.0"))
    ids = [f"{n}" for n in range(VALUES_MAX)]
    assert len(on_data(("productId", f"in.{','.join(ids)}")).data) == 1
    with pytest.raises(BadFilter, match=str(VALUES_MAX)):
        on_data(("productId", f"in.{','.join(ids)}"), ("orderId", "eq.null"))


def test_a_filter_is_written_out_as_the_query_that_gives_it() -> None:
    wanted = compile_filter(
        "order.paid,order.created",
        "s1",
        "",
        [
            ("data.total", "lt.20.50"),
            ("data.total", "gt.10"),
            ("data.customerId", 'in.b,null,"null","a,b","\\"q"'),
            ("data.items.productId", "prefix.0199"),
        ],
    )
    assert wanted.parameters() == [
        ("types", "order.created,order.paid"),
        ("sellerId", "s1"),
        ("data.customerId", 'in."\\"q","a,b","null",b,null'),
        ("data.items.productId", "prefix.0199"),
        ("data.total", "gt.10"),
        ("data.total", "lt.20.5"),
    ]


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
def test_every_field_of_a_real_event_is_found_by_its_own_value(event_type: str) -> None:
    value = golden(event_type)
    record = record_of(event_type, value)
    for name, found in json.loads(value)["data"].items():
        inner = {f"{name}.{k}": v for k, v in found[0].items()} if name == "items" else {}
        for path, own in (inner or {name: found}).items():
            for element in own if isinstance(own, list) else [own]:
                text = json.dumps(element)
                assert on_data((path, f"eq.{text}"), types=event_type).matches(record)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"{",
        b'{"data":[]}',
        b'{"data":{"stock":"4"}}',
        b'{"data":{"stock":1e999999999999999999999}}',
    ],
)
def test_data_that_cannot_be_read_matches_nothing(value: bytes) -> None:
    assert not on_data(("stock", "ge.0")).matches(record_of("product.created", value))


def test_what_is_not_asked_for_may_be_anything() -> None:
    odd = b'{"data":{"more":1e999999999999999999999,"stock":4,"items":[{"x":[]}]},"id":7}'
    assert on_data(("stock", "ge.0")).matches(record_of("product.created", odd))


def test_an_event_written_over_several_lines_is_read_as_one() -> None:
    value = b'{\r\n"data": {\n"stock":\r4,\n\n"name": "a"}}\n'
    record = record_of("product.created", value)
    assert record.block.count(b"data: ") > 3
    assert on_data(("stock", "eq.4"), ("name", "eq.a")).matches(record)


def test_a_field_has_only_the_words_of_its_schema_where_every_type_says_so() -> None:
    words = ("a.created", inspect.LiteralType(("x", "y")), False)
    assert fields._field("p", [words]).choices == {"x", "y"}
    assert (
        fields._field("p", [words, ("b.created", inspect.StrType(), False)]).choices == frozenset()
    )


def test_a_field_that_filters_cannot_compare_is_found_at_start() -> None:
    with pytest.raises(TypeError, match=r"data\.p"):
        fields._field("p", [("a.created", inspect.BoolType(), False)])


def test_the_fields_of_small_events_are_kept_and_of_large_ones_are_not() -> None:
    small = event("product.created", {"stock": 4}).block
    assert fields.read(small) is fields.read(bytes(bytearray(small)))
    large = event("product.created", {"stock": 4, "name": "x" * fields.KEPT_BYTES_MAX}).block
    assert fields.read(large) == fields.read(large)
    assert fields.read(large) is not fields.read(large)
