"""The quick reader of new products takes only what the exact one takes, and reads it alike."""

import json
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from shopstream_api.catalog import quick, schemas
from shopstream_api.catalog.schemas import NewProduct
from shopstream_api.errors import ShopError
from shopstream_api.exact_json import parse
from shopstream_api.money import EXPONENTS

texts = st.text(st.characters(exclude_categories=()), max_size=210)
printable = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=60)
numbers = st.from_regex(
    r"-?[0-9]{1,13}(\.[0-9]{1,6})?([eE][-+]?[0-9]{1,2})?", fullmatch=True
) | st.from_regex(r"[1-9][0-9]{0,4}(\.[0-9]{1,3})?", fullmatch=True)
words = texts | printable | st.none() | st.booleans() | st.integers()
MEMBERS: dict[str, st.SearchStrategy[str]] = {
    "name": words.map(json.dumps),
    "price": numbers | words.map(json.dumps),
    "sellerId": st.from_regex("[A-Za-z0-9._:-]{1,64}", fullmatch=True).map(json.dumps)
    | words.map(json.dumps),
    "description": words.map(json.dumps),
    "sku": words.map(json.dumps),
    "category": words.map(json.dumps),
    "tags": st.lists(words, max_size=22).map(json.dumps) | words.map(json.dumps),
    "stock": numbers | words.map(json.dumps),
    "currency": st.sampled_from([*EXPONENTS, "usd", "XXX"]).map(json.dumps),
    "status": st.sampled_from(["draft", "active", "archived", "Active", ""]).map(json.dumps),
    "version": st.just("1"),
}


RIGHT: dict[str, st.SearchStrategy[str]] = {
    "name": printable.map(json.dumps),
    "price": st.from_regex(r"(0|[1-9][0-9]{0,4})(\.[0-9]{1,3})?", fullmatch=True),
    "sellerId": st.just('"seller1"'),
    "description": texts.map(json.dumps),
    "sku": printable.map(json.dumps),
    "category": st.just("null"),
    "tags": st.lists(printable, max_size=3).map(json.dumps),
    "stock": st.integers(0, 10**9).map(str),
}


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON of a product, often right, with members twice, in any order and spelling."""
    extra = draw(st.lists(st.sampled_from(list(MEMBERS)), max_size=5))
    names = draw(st.permutations(["name", "price", *extra]))
    space = draw(st.sampled_from(["", " ", "\n\t"]))
    members = []
    for name in names:
        right = draw(st.integers(0, 9)) > 0
        value = draw(RIGHT.get(name, MEMBERS[name]) if right else MEMBERS[name])
        members.append(f'"{name}"{space}:{space}{value}')
    return f"{{{space}{f'{space},'.join(members)}{space}}}{space}".encode()


def exactly(body: bytes, default_seller: str | None) -> NewProduct | None:
    try:
        return schemas.read_new(parse(body), default_seller)
    except ShopError:
        return None


def agree(body: bytes, default_seller: str | None) -> NewProduct | None:
    """What the quick reader says, once it has been held against the exact one."""
    read = quick.read_new(body, default_seller)
    assert read is None or read == exactly(body, default_seller)
    return read


@given(bodies(), st.sampled_from([None, "seller1"]))
@example(b'{"name":"a","price":1,"sellerId":"s","name":5}', None)
@example(b'{"name":5,"price":1,"sellerId":"s","name":"a"}', None)
@example(b'{"name":"a","price":1,"price":"2","sellerId":"s"}', None)
@example(b'{"name":"\\ud800","price":1}', "s")
@example(b'{"name":"\xed\xa0\x80","price":1}', "s")
@example(b'{"name":"\xff","price":1}', "s")
@example(b'{"name":"a\\u0000","price":1}', "s")
@example(b'{"name":"a","price":1,"description":"\\u0000"}', "s")
@example(b'{"name":"a","price":1,"description":"\\udc00"}', "s")
@example(b'{"name":"a","price":1,"sellerId":null}', "s")
@example(b'{"name":"a","price":1,"stock":2.0}', "s")
@example(b'{"name":"a","price":1,"stock":1e2}', "s")
@example(b'{"name":"a","price":-0}', "s")
@example(b'{"name":"a","price":NaN}', "s")
@example(b'{"name":"a","price":"1"}', "s")
@example(b'{"name":"a","price":1,"tags":null}', "s")
@example(b'{"name":"a","price":10000000000.01}', "s")
@example(b'{"name":"a","price":1.001,"currency":"KWD"}', "s")
@example(b'\xef\xbb\xbf{"name":"a","price":1}', "s")
@example(b'{"name":"a","price":1} x', "s")
@example(b'{"name":"a","price":1}', "not a seller")
def test_what_the_quick_reader_takes_the_exact_one_reads_alike(
    body: bytes, seller: str | None
) -> None:
    agree(body, seller)


@given(bodies(), st.data())
def test_a_damaged_body_is_not_read_as_something_else(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    agree(body[:at] + data.draw(st.binary(max_size=3)) + body[at + 1 :], "seller1")


@given(
    st.fixed_dictionaries(
        {
            "name": printable.filter(bool),
            "price": st.integers(0, 10**6),
            "stock": st.integers(0, 10**9),
            "tags": st.lists(printable.filter(lambda tag: len(tag) <= 50), max_size=20),
            "status": st.sampled_from(["draft", "active", "archived"]),
        }
    )
)
def test_the_quick_reader_takes_what_most_clients_send(product: dict[str, Any]) -> None:
    assume(all(text.isprintable() for text in (product["name"], *product["tags"])))
    assert agree(json.dumps(product).encode(), "seller1") is not None
