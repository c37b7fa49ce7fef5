"""The grammar of filters."""

import pytest

from shopstream_notifications.filters import VALUE_LENGTH_MAX, BadFilter, Filter, compile_filter
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
