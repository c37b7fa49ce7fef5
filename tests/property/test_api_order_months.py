"""The months of ids: every moment falls into one, and its ids lie between the bounds."""

from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopstream_api.orders.partitions import (
    AHEAD_MONTHS,
    first_id,
    following,
    month_of,
    partition_of,
    wanted,
)
from shopstream_shared.clock import epoch_ms

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.builds(
    lambda after, offset: (EPOCH + after).astimezone(timezone(offset)),
    st.timedeltas(timedelta(days=2), timedelta(days=8_000 * 365)),
    st.timedeltas(timedelta(hours=-14), timedelta(hours=14)),
)


@given(moment=MOMENTS, tail=st.integers(0, 2**74 - 1))
def test_any_id_of_a_moment_lies_in_the_partition_of_its_month(moment: datetime, tail: int) -> None:
    random, rest = divmod(tail, 2**62)
    made = UUID(int=epoch_ms(moment) << 80 | 7 << 76 | random << 64 | 2 << 62 | rest)
    month = month_of(moment)
    assert first_id(month) <= made < first_id(following(month))


@given(moment=MOMENTS)
def test_months_follow_each_other_without_a_gap(moment: datetime) -> None:
    month = month_of(moment)
    later = following(month)
    assert month < later
    last_day = datetime(later.year, later.month, 1, tzinfo=UTC) - timedelta(days=1)
    assert month_of(last_day) == month
    assert wanted(moment)[0] == month
    assert len(wanted(moment)) == AHEAD_MONTHS + 1


@pytest.mark.parametrize(
    ("month", "low"),
    [
        (date(1970, 1, 1), "00000000-0000-0000-0000-000000000000"),
        (date(2026, 11, 1), "01a19467-e800-0000-0000-000000000000"),
    ],
)
def test_the_bound_of_a_month_is_its_first_millisecond(month: date, low: str) -> None:
    assert str(first_id(month)) == low


def test_a_partition_is_named_for_its_month() -> None:
    assert partition_of("orders", date(2027, 3, 1)) == "orders_2027_03"
    assert [partition_of("x", month) for month in wanted(datetime(2026, 11, 30, tzinfo=UTC))] == [
        *("x_2026_11", "x_2026_12", "x_2027_01", "x_2027_02")
    ]
