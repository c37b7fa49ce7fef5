"""Names and lines of the archive, read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.analytics_events import LogRecord, event, inventory_body, record_of

from shopstream_analytics.archive.line import line_of
from shopstream_shared.archive.keys import Damaged, ObjectKey, Place, day_prefix, object_key
from shopstream_shared.archive.lines import Offsets, Record, event_in, read_line

PLACE = Place("shop.inventory", 3)
EVENT = event("inventory.updated", inventory_body("p1", "s1", 1), subject="p1", seller="s1")
KEY = (
    "events/topic=shop.orders/year=2026/month=11/day=21/hour=08"
    "/shop.orders+2+00000000000000000058.jsonl.zst"
)


def test_a_key_is_read_back_to_what_it_was_made_of() -> None:
    assert object_key(Place("shop.orders", 2), 58, 1_795_248_173_756) == KEY
    read = ObjectKey.read(KEY)
    assert (read.place, read.first, read.generation, read.day) == (
        Place("shop.orders", 2),
        58,
        0,
        "2026-11-21",
    )
    assert str(read) == KEY
    later = str(read._replace(generation=3))
    assert later.startswith("events/epoch=3/topic=shop.orders/year=2026/")
    assert ObjectKey.read(later).generation == 3
    assert KEY.startswith(day_prefix("shop.orders", "2026-11-21"))


@pytest.mark.parametrize(
    "key",
    [
        KEY.replace("+2+", "+02+"),
        KEY.replace("shop.orders+", "shop.products+"),
        KEY.replace("month=11", "month=13"),
        KEY.replace("hour=08", "hour=24"),
        KEY.replace("events/", "events/epoch=0/"),
        KEY.replace(".zst", ""),
        KEY + "\n",
        "parquet/" + KEY,
    ],
)
def test_what_is_no_key_of_a_chain_is_refused(key: str) -> None:
    with pytest.raises(Damaged, match="not the key"):
        ObjectKey.read(key)


@given(
    value=st.one_of(st.none(), st.just(EVENT.value), st.binary(max_size=40)),
    key=st.one_of(st.none(), st.binary(max_size=20), st.just(b'k,"event":"')),
    headers=st.lists(
        st.tuples(st.one_of(st.text(max_size=9), st.just(',"event":{"')), st.none() | st.binary()),
        max_size=3,
    ),
    offset=st.integers(0, 2**63 - 1),
)
def test_a_line_gives_back_the_record_byte_for_byte_and_its_parts_one_by_one(
    value: bytes | None,
    key: bytes | None,
    headers: list[tuple[str, bytes | None]],
    offset: int,
) -> None:
    line = line_of(LogRecord(*PLACE, offset, 7, key, value, headers)).removesuffix(b"\n")
    assert b"\n" not in line
    read = read_line(line, PLACE)
    raw = value != EVENT.value
    assert read == Record(offset, 7, key, headers, value, raw)
    assert event_in(line) == (None if raw else value)
    assert Offsets(PLACE).of(line) == offset


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b'{"topic":"shop.inventory","partition":3,"offset":1',
        b'{"topic":"shop.inventory","partition":3,"offset":-1,"timestamp":1}',
        (
            b'{"topic":"shop.inventory","partition":3,"offset":1,"timestamp":1,"key":null,'
            b'"headers":[[]],"event":null,"raw":null}'
        ),
        (
            b'{"topic":"shop.inventory","partition":3,"offset":1,"timestamp":1,"key":null,'
            b'"headers":[],"event":null,"raw":"no base64"}'
        ),
    ],
)
def test_a_line_that_is_none_is_damaged_and_nothing_else(line: bytes) -> None:
    with pytest.raises(Damaged):
        read_line(line, PLACE)


def test_a_line_of_another_partition_is_damaged() -> None:
    line = line_of(record_of(EVENT, 1, 2))
    for read in (lambda: read_line(line, PLACE), lambda: Offsets(PLACE).of(line)):
        with pytest.raises(Damaged, match=r"a line of shop\.inventory/2"):
            read()


def test_a_line_written_by_another_hand_is_read_by_its_members_not_their_order() -> None:
    text = (
        b'{"event":{"a":1},"headers":[],"key":null,"timestamp":1,"offset":5,"partition":3,'
        b'"topic":"shop.inventory"}'
    )
    assert Offsets(PLACE).of(text) == 5
    assert read_line(text, PLACE).value == b'{"a":1}'
