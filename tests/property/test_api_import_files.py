"""Whatever file is sent, however it is cut on its way, its records and rows are the same."""

import csv
import io
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from shopstream_api.catalog import quick
from shopstream_api.catalog.schemas import read_replacement
from shopstream_api.errors import Forbidden, ShopError, ValidationFailed
from shopstream_api.exact_json import parse
from shopstream_api.imports.errors import MalformedCsv
from shopstream_api.imports.records import RECORD_BYTES_MAX, Record, Records
from shopstream_api.imports.rows import Row, read_header, read_row
from shopstream_api.imports.upload import Slices, decode_slice
from shopstream_api.principal import Principal
from shopstream_api.web.errors import BodyTooLarge, MalformedJson

ANYONE = Principal()
HEADER = ("sku", "name", "price", "sellerId")
BIG = b"x" * (RECORD_BYTES_MAX + 1)

#: What matters to where a record ends.
scraps = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b'"', b'""', b",", b" ", b"a", b"\xff", b'{"a":1}']
)
files = st.lists(scraps | st.binary(max_size=5), max_size=60).map(b"".join)
cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12
) | st.sampled_from(["", '"', "a,b", "a\nb", "\r\n", ' " ', "|", "[]", "\ufeff"])
tables = st.lists(st.lists(cells, min_size=2, max_size=2), max_size=8)


def _cut(data: bytes, sizes: Sequence[int], *, quoted: bool) -> list[Record]:
    """The records of a file that comes in pieces of these sizes, over and over."""
    records, found, at, turn = Records(quoted=quoted), [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        found += records.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    return found + records.end()


@given(data=files, sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5), quoted=st.booleans())
@example(data=b'"a\n', sizes=[1], quoted=True)
def test_records_do_not_depend_on_how_the_bytes_come(
    *, data: bytes, sizes: list[int], quoted: bool
) -> None:
    assert _cut(data, sizes, quoted=quoted) == _cut(data, [len(data) or 1], quoted=quoted)


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5))))
def test_lines_of_json_come_out_as_they_went_in(values: list[Any]) -> None:
    lines = [json.dumps(value).encode() for value in values]
    assert _cut(b"\r\n\n \n".join(lines), [3], quoted=False) == [
        line + b"\r" if n < len(lines) else line for n, line in enumerate(lines, 1)
    ]


@given(table=tables, line_end=st.sampled_from(["\n", "\r\n"]), marked=st.booleans())
def test_a_table_that_is_written_as_csv_is_read_back(
    *, table: list[list[str]], line_end: str, marked: bool
) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(table)
    mark = b"\xef\xbb\xbf" if marked else b""
    records = _cut(mark + file.getvalue().encode(), [5], quoted=True)
    assert [next(csv.reader([(r or b"").decode()], strict=True)) for r in records] == table


@given(tables)
def test_quotes_only_where_they_are_needed_are_read_back_too(table: list[list[str]]) -> None:
    file = io.StringIO()
    csv.writer(file).writerows([["k", *row] for row in table])
    records = _cut(file.getvalue().encode(), [4], quoted=True)
    read = [next(csv.reader([(record or b"").decode()], strict=True)) for record in records]
    assert read == [["k", *row] for row in table]


@pytest.mark.parametrize("quoted", [False, True])
def test_a_record_that_is_too_long_is_one_row_and_not_the_end(*, quoted: bool) -> None:
    file = b"a\n" + BIG + b"\nb\n" + BIG
    assert _cut(file, [65_536], quoted=quoted) == [b"a", None, b"b", None]


def test_a_quote_that_is_never_closed_takes_one_record_with_it_and_no_more() -> None:
    lines = [b"ok", b'"open', *([b"y" * 1_000] * 1_100), b"last"]
    records = _cut(b"\n".join(lines), [65_536], quoted=True)
    assert records[:2] == [b"ok", None]
    assert records[-1] == b"last"
    short = _cut(b'ok\n"open\nx', [2], quoted=True)
    assert len(short) == 2
    with pytest.raises(MalformedCsv):
        read_row(2, short[1], HEADER, ANYONE)


def test_a_quote_inside_a_plain_field_is_only_a_character() -> None:
    records = _cut(b's1,5" pipe,1,a\ns2,pipe,1,a', [3], quoted=True)
    assert [read_row(1, record, HEADER, ANYONE).details.name for record in records] == [
        '5" pipe',
        "pipe",
    ]


@given(st.lists(st.none() | st.binary(min_size=1, max_size=20), max_size=1_300))
def test_slices_hold_all_records_in_their_order(records: list[Record]) -> None:
    slices = Slices()
    made = [full for full in map(slices.add, records) if full is not None]
    rest = slices.cut()
    made += [] if rest is None else [rest]
    unpacked = [(first, decode_slice(encoded)) for first, encoded in made]
    assert [record for _, part in unpacked for record in part] == records
    row = 1
    for first, part in unpacked:
        assert first == row
        assert 1 <= len(part) <= 500
        row += len(part)


@given(data=files, quoted=st.booleans())
def test_any_record_is_a_row_or_a_fault_of_the_sender(*, data: bytes, quoted: bool) -> None:
    for record in _cut(data, [len(data) or 1], quoted=quoted):
        try:
            assert isinstance(read_row(1, record, HEADER if quoted else None, ANYONE), Row)
        except ShopError as error:
            assert isinstance(  # noqa: PT017 - most records are faulty, none must be
                error, ValidationFailed | MalformedJson | MalformedCsv | BodyTooLarge
            )


@given(st.decimals(0, 10**9, places=2), st.integers(0, 10**9), st.lists(cells, max_size=4))
def test_a_csv_row_is_the_product_that_json_would_be(
    price: Decimal, stock: int, tags: list[str]
) -> None:
    header = ("sku", "name", "price", "stock", "tags", "sellerId", "description")
    file = io.StringIO()
    csv.writer(file).writerow(
        ["s", "n", price, stock, json.dumps(tags), "seller1", ""],
    )
    body = {"sku": "s", "name": "n", "stock": stock, "tags": tags, "sellerId": "seller1"}
    line = json.dumps(body)[:-1] + f', "price": {price}}}'
    assert _read(file.getvalue().encode(), header) == _read(line.encode(), None)


def _read(record: bytes, header: tuple[str, ...] | None) -> Row | str:
    try:
        return read_row(1, record, header, ANYONE)
    except ValidationFailed as error:
        return error.detail


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        ("a|b", ("a", "b")),
        ("a", ("a",)),
        ("a b, c", ("a b, c",)),
        ('["a|b","c"]', ("a|b", "c")),
        ("[]", ()),
        ("", ()),
    ],
)
def test_tags_of_a_cell_are_a_list_or_texts_with_bars_between(
    cell: str, tags: tuple[str, ...]
) -> None:
    file = io.StringIO()
    csv.writer(file).writerow(["s", "n", "1", "seller1", cell])
    row = read_row(1, file.getvalue().encode(), (*HEADER, "tags"), ANYONE)
    assert row.details.tags == tags


def test_an_empty_cell_is_an_absent_member() -> None:
    header = (*HEADER, "stock", "description", "currency", "status", "tags", "category")
    row = read_row(1, b's,n,9.990,seller1,,"",,,,', header, ANYONE)
    assert row.stock is UNSET
    details = row.details
    assert (details.price_minor, details.currency, details.status) == (999, "USD", "active")
    assert (details.description, details.tags, details.category) == (None, (), None)


@pytest.mark.parametrize(
    ("record", "error", "said"),
    [
        (b"s,n,9.999,seller1", ValidationFailed, "/price"),
        (b"s,n,nan,seller1", ValidationFailed, "/price"),
        (b"s,n,0x10,seller1", ValidationFailed, "/price"),
        (b"s,n,1e99999999999999999999,seller1", ValidationFailed, "/price"),
        (b"s,n,,seller1", ValidationFailed, "/price"),
        (b",n,1,seller1", ValidationFailed, "/sku"),
        (b"s,n,1,", ValidationFailed, "/sellerId"),
        (b"s,n,1", MalformedCsv, "3 fields"),
        (b"s,n,1,seller1,x", MalformedCsv, "5 fields"),
        (b"s,\xff,1,seller1", MalformedCsv, "UTF-8"),
        (b's,"n"x,1,seller1', MalformedCsv, "not CSV"),
        (None, BodyTooLarge, "bytes"),
    ],
)
def test_a_bad_csv_row_says_what_is_wrong(
    record: Record, error: type[ShopError], said: str
) -> None:
    with pytest.raises(error, match=said):
        read_row(1, record, HEADER, ANYONE)


@pytest.mark.parametrize(
    ("record", "error", "said"),
    [
        (b"{}", ValidationFailed, "/name"),
        (b"[]", ValidationFailed, "object"),
        (b'{"name":"n","price":1,"sku":"s"}', ValidationFailed, "/sellerId"),
        (b'{"name":"n","price":1,"sku":null,"sellerId":"s"}', ValidationFailed, "/sku"),
        (b'{"name":"n","price":1,"sku":"s","sellerId":"s","id":"x"}', ValidationFailed, "/id"),
        (b"{", MalformedJson, "JSON"),
        (b'{"name":"\xff"}', MalformedJson, "UTF-8"),
        (None, BodyTooLarge, "bytes"),
    ],
)
def test_a_bad_line_says_what_is_wrong(record: Record, error: type[ShopError], said: str) -> None:
    with pytest.raises(error, match=said):
        read_row(1, record, None, ANYONE)


def test_a_row_is_of_the_caller_unless_it_names_another_seller() -> None:
    line = b'{"name":"n","price":1,"sku":"s"}'
    assert read_row(1, line, None, Principal("me")).seller_id == "me"
    with pytest.raises(Forbidden):
        read_row(1, line[:-1] + b',"sellerId":"you"}', None, Principal("me"))


@pytest.mark.parametrize(
    ("header", "pointers"),
    [
        (b"name,price,sku", ["sellerId"]),
        (b"name,price,sku,sellerId,colour", ["colour"]),
        (b"name,price,sku,sellerId,version", ["version"]),
        (b"Name,price,sku,sellerId", ["Name", "name"]),
        (b"name,name,price,sku,sellerId", ["name"]),
        (b"", ["name", "price", "sku", "sellerId"]),
        (b"name;price;sku;sellerId", ["name;price;sku;sellerId", "name", "price", "sku"]),
    ],
)
def test_a_wrong_header_names_its_columns(header: bytes, pointers: list[str]) -> None:
    with pytest.raises(ValidationFailed) as caught:
        read_header(header, ANYONE)
    found = [fault.pointer for fault in caught.value.faults]
    assert found[: len(pointers)] == pointers


def test_a_seller_s_own_file_needs_no_column_for_the_seller() -> None:
    assert read_header(b' sku ,"name",price', Principal("me")) == ("sku", "name", "price")


members = st.fixed_dictionaries(
    {"name": st.text(max_size=5)},
    optional={
        "price": st.sampled_from(["1", "9.99", "9.990", "1e2", "-1", '"1"', "10000000000.01", "0"]),
        "sku": cells | st.none() | st.integers(),
        "description": cells | st.none(),
        "category": cells,
        "tags": st.lists(cells, max_size=3) | st.none() | cells,
        "stock": st.integers(-1, 10**9 + 1) | st.just(2.0) | st.booleans(),
        "currency": st.sampled_from(["USD", "JPY", "KWD", "usd", None]),
        "status": st.sampled_from(["draft", "active", "gone"]),
        "sellerId": st.sampled_from(["seller1", "no spaces", "", None]),
        "id": st.just("x"),
    },
)


@given(members)
def test_the_quick_reader_of_a_line_says_what_the_exact_one_says_or_nothing(
    sent: dict[str, Any],
) -> None:
    price = sent.pop("price", None)
    line = json.dumps(sent)
    if price is not None:
        line = f'{line[:-1]}, "price": {price}}}'
    quickly = quick.read_replacement(line.encode())
    assert quickly is None or quickly == read_replacement(parse(line.encode()))


def test_an_ordinary_line_is_read_quickly() -> None:
    line = b'{"sku":"s","name":"n","price":9.99,"stock":0,"tags":["a"],"sellerId":"seller1"}'
    assert quick.read_replacement(line) == read_replacement(parse(line))
