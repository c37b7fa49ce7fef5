"""Time in one form everywhere."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shopstream_shared.clock import (
    ManualClock,
    SystemClock,
    Uuid7Source,
    epoch_ms,
    format_time,
    parse_time,
)

MOMENT = datetime(2026, 11, 21, 5, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (MOMENT, "2026-11-21T05:00:00.123456Z"),
        (MOMENT.replace(microsecond=0), "2026-11-21T05:00:00.000000Z"),
        (MOMENT.replace(microsecond=120), "2026-11-21T05:00:00.000120Z"),
        (
            MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30))),
            "2026-11-21T05:00:00.123456Z",
        ),
        (MOMENT.replace(year=987), "0987-11-21T05:00:00.123456Z"),
    ],
)
def test_a_moment_has_six_digits_and_z_whatever_it_is(moment: datetime, text: str) -> None:
    assert format_time(moment) == text
    assert parse_time(text) == moment


def test_a_moment_without_offset_is_not_written() -> None:
    with pytest.raises(ValueError, match="offset"):
        format_time(MOMENT.replace(tzinfo=None))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-21T05:00:00",
        "2026-11-21",
        "2026-13-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_a_text_that_is_no_moment_in_utc_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


def test_kafka_milliseconds_are_exact_and_round_down() -> None:
    assert epoch_ms(MOMENT) == 1795237200123
    assert epoch_ms(MOMENT.replace(microsecond=999_999)) == 1795237200999
    assert epoch_ms(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1


def test_new_ids_are_version_7_and_rise_within_a_process() -> None:
    source = Uuid7Source()

    ids = [source.new_id() for _ in range(2_000)]

    assert ids == sorted(set(ids))
    assert {(len(text), text[14], text == text.lower()) for text in ids} == {(36, "7", True)}


def test_a_manual_clock_moves_only_when_told_to() -> None:
    clock = ManualClock(MOMENT)
    clock.advance(timedelta(seconds=2))

    assert clock.now() == MOMENT + timedelta(seconds=2)
    assert SystemClock().now().tzinfo is UTC
