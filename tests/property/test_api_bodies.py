"""Whatever is sent, a reader of bodies answers with a command or with a fault of the caller."""

import contextlib
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shopstream_api.catalog.schemas import read_new, read_patch, read_replacement
from shopstream_api.errors import ValidationFailed
from shopstream_api.exact_json import parse
from shopstream_api.idempotency.service import _canonical
from shopstream_api.money import EXPONENTS, PRICE_MINOR_MAX, NotMoney, from_minor, to_minor
from shopstream_api.orders.schemas import read_order
from shopstream_api.stock.schemas import read_adjustment, read_set
from shopstream_api.web.errors import MalformedJson

READERS: tuple[Callable[[object], object], ...] = (
    partial(read_new, default_seller=None),
    read_patch,
    read_replacement,
    read_adjustment,
    read_set,
    read_order,
)
NAMES = [
    "name",
    "description",
    "sku",
    "category",
    "tags",
    "price",
    "currency",
    "status",
    "stock",
    "sellerId",
    "delta",
    "reason",
    "quantity",
    "expectedQuantity",
    "customerId",
    "items",
    "productId",
    "id",
    "version",
]

texts = st.text(st.characters(exclude_categories=()), max_size=70)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["USD", "JPY", "active", "draft"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | texts, inner, max_size=6)
    ),
    max_leaves=12,
)


@given(values)
@pytest.mark.parametrize("read", READERS, ids=["new", "patch", "put", "adjust", "set", "order"])
def test_a_reader_raises_nothing_but_validation_failed(
    read: Callable[[object], object], value: Any
) -> None:
    with contextlib.suppress(ValidationFailed):
        command = read(value)
        # Merging lines looks at ids, which may be no product's.
        merged = getattr(command, "merged", None)
        if merged is not None:
            merged()


@given(st.binary() | st.text().map(str.encode))
@example(b"[" * 200_000)
@example(b"1" * 10_000)
@example(b"1e99999999999999999999999")
@example(b'"\\ud800"')
def test_parsing_bytes_raises_nothing_but_malformed_json(body: bytes) -> None:
    with contextlib.suppress(MalformedJson):
        parse(body)


@given(st.decimals(allow_nan=False, allow_infinity=False), st.sampled_from(sorted(EXPONENTS)))
def test_money_is_held_exactly_or_refused(price: Decimal, currency: str) -> None:
    with contextlib.suppress(NotMoney):
        minor = to_minor(price, currency)
        assert 0 <= minor <= PRICE_MINOR_MAX
        assert from_minor(minor, currency) == price


@given(values)
def test_a_canonical_form_does_not_depend_on_the_order_of_members(value: Any) -> None:
    def reversed_members(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: reversed_members(node[name]) for name in reversed(list(node))}
        if isinstance(node, list):
            return [reversed_members(entry) for entry in node]
        return node

    assert _canonical(reversed_members(value)) == _canonical(value)
