"""The archive's quick way says and writes what the slow way does, whatever stands on the log."""

import json
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.analytics_events import LogRecord

from shopstream_analytics.archive.begun import TEMPLATES_MAX, Beginnings, BegunRecord
from shopstream_analytics.archive.line import line, line_of
from shopstream_analytics.archive.plain import is_plain
from shopstream_analytics.consumer.records import PackedRecord
from shopstream_analytics.events import EventRejected, read_event

SOURCE = TP("shop.orders", 2)
#: A name with a control character in it goes the slow way.
ESCAPED = b"\\u0001"
GOLDEN = {
    path.name: json.dumps(json.loads(path.read_bytes()), separators=(",", ":"), ensure_ascii=False)
    .encode()
    .replace(ESCAPED, b"")
    for path in sorted((Path(__file__).parents[1] / "golden").glob("*.json"))
}

#: What could stand where something else should.
STRANGE = st.sampled_from(
    [
        *("null", "true", "0", "-1", "1.5", "1e3", "1E400", "0e99999999999999999999", "-0", "01"),
        *("99999999999999999999999999", "1.0000000000000000000001", '""', '"x"', '"1"', '"NaN"'),
        *("[]", "{}", "[{}]", '"2026-13-01T00:00:00.000000Z"', '"2026-11-21"', '"order.paid"'),
        *('"' + "k" * 300 + '"', '"' + "ü" * 513 + '"', '"\\ud800"', '"\\u0000"', '"a\\nb"'),
        *('"\u0662"', '"\u00b2"', '"1\\n"', '"9999999999999999999"'),
        *('"2026-11-21T05:00:00.000000Z\\n"', '"0"', '"00"', '"9223372036854775808"', "NaN"),
    ]
)


def accepted(value: bytes | None) -> bool:
    try:
        read_event(value)
    except EventRejected:
        return False
    return True


@pytest.mark.parametrize("name", GOLDEN)
def test_every_kind_of_event_that_we_write_goes_the_quick_way(name: str) -> None:
    assert is_plain(GOLDEN[name])


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    """An event with something else in it: a member's value, a member twice, other bytes."""
    value = GOLDEN[draw(st.sampled_from(sorted(GOLDEN)))]
    way = draw(st.sampled_from(["member", "twice", "bytes", "cut", "space"]))
    if way in {"member", "twice"}:
        members = [at for at in range(len(value)) if value.startswith(b'":', at)]
        at = draw(st.sampled_from(members)) + 2
        name = value[value.rindex(b'"', 0, at - 2) : at]
        strange = draw(STRANGE).encode()
        if way == "member":
            end = at + _length(value[at:])
            return value[:at] + strange + value[end:]
        return value[: at - len(name)] + name + strange + b"," + value[at - len(name) :]
    at = draw(st.integers(0, len(value)))
    if way == "bytes":
        return value[:at] + draw(st.binary(max_size=3)) + value[at + draw(st.integers(0, 2)) :]
    if way == "cut":
        return value[:at]
    return draw(st.sampled_from([b" ", b"\n", b"\xef\xbb\xbf"])) + value


def _length(text: bytes) -> int:
    """Of the JSON value that a text begins with."""
    _, end = json.JSONDecoder().raw_decode(text.decode())
    return len(text.decode()[:end].encode())


@settings(max_examples=600, deadline=None)
@given(value=altered())
def test_whatever_is_plain_is_an_event(value: bytes) -> None:
    assert accepted(value) or not is_plain(value)


@pytest.mark.parametrize(
    "sequence", ["", "0", "-1", "+1", " 1", "1 ", "1_0", "x", "\u0662", "\u00b2", "1\\n"]
)
def test_what_is_no_sequence_is_not_plain(sequence: str) -> None:
    value = GOLDEN["order.paid.v1.json"]
    at = value.index(b'"sequence":"') + len(b'"sequence":"')
    made = value[:at] + sequence.encode() + value[value.index(b'"', at) :]
    assert not accepted(made)
    assert not is_plain(made)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{}",
        b'{"type":"order.dreamt"}',
        b'{"type":"order.paid"}',
        GOLDEN["order.paid.v1.json"].replace(b'"total":', b'"total":"x","total":'),
        GOLDEN["order.paid.v1.json"].replace(b'"unitPrice":', b'"unitPrice":"x","unitPrice":'),
        GOLDEN["product.created.v1.json"].replace(b'"price":', b'"pric\\u0065":"x","price":'),
        GOLDEN["order.paid.v1.json"].replace(b'"type":', b'"type":"order.paid","type":"x","a":'),
        GOLDEN["order.paid.v1.json"][:-1] + b',"more":"' + b"x" * 262_144 + b'"}',
        GOLDEN["order.paid.v1.json"][:-1] + b',"more":"\xff"}',
    ],
)
def test_what_only_looks_like_an_event_is_not_plain(value: bytes | None) -> None:
    assert not is_plain(value)
    assert not accepted(value)


TEXTS = st.one_of(st.just(b"seller1"), st.text(max_size=9).map(str.encode), st.binary(max_size=5))


@settings(max_examples=300, deadline=None)
@given(
    value=st.one_of(st.sampled_from(sorted(GOLDEN.values())), altered(), st.none()),
    key=st.none() | TEXTS,
    headers=st.lists(
        st.tuples(
            st.one_of(st.just("ce_id"), st.just("100%"), st.text(max_size=5)), st.none() | TEXTS
        ),
        max_size=4,
    ),
)
def test_the_quick_line_is_the_slow_line_byte_for_byte(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    beginnings = Beginnings()
    read = LogRecord(*SOURCE, 7, 1_795_248_173_756, key, value, headers)
    for _ in range(2):
        record = beginnings.record(SOURCE, read)
        assert line(record) == line_of(record) == line_of(read)
        assert (record.key, record.value) == (key, value)
        assert list(record.headers) == headers


@pytest.mark.parametrize("name", GOLDEN)
def test_the_line_of_an_event_that_we_write_is_begun_as_it_is_read(name: str) -> None:
    headers: list[Any] = [("ce_id", b"1"), ("100%", b"x"), ("\u00fc", b"a b"), ("ce_id", b"")]
    read = LogRecord(*SOURCE, 7, 1, b"k", GOLDEN[name], headers)
    record = Beginnings().record(SOURCE, read)
    assert isinstance(record, BegunRecord)
    assert line(record) == line_of(read)
    assert list(record.headers) == headers


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        (b'"', [("a", b"x")]),
        (b"k", [("a", b"x\\")]),
        (b"k", [("a", b"\n")]),
        (b"k", [("a", b"\x7f")]),
        (b"\xff", [("a", b"x")]),
        (b"k", [("a", None)]),
        (b"k", [("\u00fc", "\u00fc".encode())]),
        (b"k", []),
        (None, [("a", b"x")]),
    ],
)
def test_a_record_whose_key_or_headers_are_not_plain_keeps_them(
    key: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    read = LogRecord(*SOURCE, 7, 1, key, GOLDEN["order.paid.v1.json"], headers)
    record = Beginnings().record(SOURCE, read)
    assert isinstance(record, PackedRecord)
    assert list(record.headers) == headers
    assert line(record) == line_of(read)


def test_each_partition_s_lines_begin_with_its_own_name() -> None:
    beginnings = Beginnings()
    for partition in (0, 1, 0):
        read = LogRecord("t", partition, 7, 1, b"k", GOLDEN["order.paid.v1.json"], [("a", b"x")])
        assert line(beginnings.record(TP("t", partition), read)) == line_of(read)


def test_ever_new_names_of_headers_fill_no_memory() -> None:
    beginnings = Beginnings()
    value = GOLDEN["order.paid.v1.json"]
    for number in range(TEMPLATES_MAX + 5):
        headers: list[Any] = [(f"h{number}", b"x")]
        read = LogRecord(*SOURCE, number, 0, b"k", value, headers)
        assert line(beginnings.record(SOURCE, read)) == line_of(read)
    assert len(beginnings._templates[SOURCE]) == TEMPLATES_MAX


@pytest.mark.parametrize(
    "time",
    ["2026-11-21T05:00:00", "0001-01-01T00:00:00+01:00", f"2026-11-21T05:00:00.{'0' * 60}Z", "x"],
)
def test_what_is_no_time_in_utc_is_not_plain(time: str) -> None:
    value = GOLDEN["order.paid.v1.json"]
    at = value.index(b'"time":"') + len(b'"time":"')
    made = value[:at] + time.encode() + value[value.index(b'"', at) :]
    assert not accepted(made)
    assert not is_plain(made)


@pytest.mark.parametrize("between", [b"\n", b"\r"])
def test_an_event_of_several_lines_is_kept_raw_in_one(between: bytes) -> None:
    value = GOLDEN["order.paid.v1.json"].replace(b",", b"," + between, 1)
    assert is_plain(value)
    read = LogRecord(*SOURCE, 7, 1, b"k", value, [("a", b"x")])
    assert line(Beginnings().record(SOURCE, read)) == line_of(read)
