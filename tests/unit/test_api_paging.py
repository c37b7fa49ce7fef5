"""Keyset pages and their cursors."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from shopstream_api.errors import InvalidCursor
from shopstream_api.paging import Key, page_of, paging

START = datetime(2026, 11, 21, tzinfo=UTC)
ROWS: list[Key] = [
    (START - timedelta(microseconds=n), UUID(int=1_000 - n)) for n in range(5)
]  # newest first


def test_a_first_page_has_no_previous_and_leads_to_the_next() -> None:
    page = page_of(ROWS[:3], paging(2, None, ("f",)), lambda row: row)
    assert page.items == ROWS[:2]
    assert page.has_more
    assert page.prev_cursor is None
    following = paging(2, page.next_cursor, ("f",))
    assert following.after == ROWS[1]
    assert not following.backwards


def test_the_last_page_has_no_next() -> None:
    page = page_of(ROWS[:2], paging(2, None, ()), lambda row: row)
    assert not page.has_more
    assert page.next_cursor is None


def test_a_page_read_backwards_is_newest_first_all_the_same() -> None:
    first = page_of(ROWS[:3], paging(2, None, ()), lambda row: row)
    second_request = paging(2, first.next_cursor, ())
    second = page_of(ROWS[2:5], second_request, lambda row: row)
    back = paging(2, second.prev_cursor, ())
    assert back.backwards
    assert back.after == ROWS[2]
    page = page_of([ROWS[1], ROWS[0]], back, lambda row: row)
    assert page.items == ROWS[:2]
    assert page.has_more
    assert page.prev_cursor is None


def test_a_cursor_of_other_filters_is_refused() -> None:
    page = page_of(ROWS[:3], paging(2, None, ("status=active",)), lambda row: row)
    with pytest.raises(InvalidCursor, match="other filters"):
        paging(2, page.next_cursor, ("status=draft",))


def test_a_damaged_cursor_is_refused_wherever_it_is_damaged() -> None:
    cursor = page_of(ROWS[:3], paging(2, None, ()), lambda row: row).next_cursor
    assert cursor is not None
    for place in range(len(cursor)):
        other = "A" if cursor[place] != "A" else "B"
        changed = cursor[:place] + other + cursor[place + 1 :]
        # The last character may carry bits that stand for nothing.
        if place < len(cursor) - 1:
            with pytest.raises(InvalidCursor):
                paging(2, changed, ())


@pytest.mark.parametrize("text", ["", "x", "é", "AAAA", "A" * 5_000, "=", "a b"])
def test_a_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        paging(2, text, ())


def test_a_number_that_no_row_can_have_is_refused() -> None:
    beyond = paging(2, None, ()).cursor((2**63, ROWS[0][1]), backwards=False)
    with pytest.raises(InvalidCursor):
        paging(2, beyond, (), numbered=True)
