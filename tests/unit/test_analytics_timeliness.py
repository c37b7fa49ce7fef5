"""Late and ahead, by partition time: what each rule says, and that borders change nothing."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from tests.support.analytics_events import DAY, event, inventory_body, naive_times

from shopstream_analytics.aggregates.definitions import AHEAD_RUN_MAX
from shopstream_analytics.aggregates.fold import ItemKey, fold
from shopstream_analytics.aggregates.timeliness import Marks, PartitionTime, mark
from shopstream_shared.clock import epoch_ms, format_time
from shopstream_shared.events.codec import DecodedEvent, decode
from shopstream_stack.verify import timing

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def events_at(*after: timedelta) -> list[tuple[int, DecodedEvent]]:
    """Events at these spans after midnight, at offsets 0, 2, 4 … (markers take the others)."""
    body = inventory_body("p", "s", 1)
    made = [
        event("inventory.updated", body, subject="p", seller="s", at=DAY + span) for span in after
    ]
    return [(2 * number, decode(one.value)) for number, one in enumerate(made)]


def marked(*after: timedelta) -> Marks:
    return mark(events_at(*after), PartitionTime())[0]


@pytest.mark.parametrize(
    ("time", "reached", "found"),
    [
        (59 * MINUTE, HOUR + 10 * MINUTE, {4}),
        (timedelta(), HOUR + 10 * MINUTE, {4}),
        (59 * MINUTE, HOUR + 10 * MINUTE - timedelta(microseconds=1), frozenset()),
        (HOUR, HOUR + 30 * MINUTE, frozenset()),
    ],
    ids=["at the bound", "early in the hour", "a moment below", "its hour is open"],
)
def test_an_event_is_late_when_its_hour_was_over_for_ten_minutes(
    time: timedelta, reached: timedelta, found: set[int]
) -> None:
    marks = marked(30 * MINUTE, reached, time)
    assert marks == Marks(late=frozenset(found))


def test_one_wrong_clock_is_ahead_and_makes_nobody_late() -> None:
    found = marked(timedelta(), 30 * HOUR, MINUTE, 2 * MINUTE)
    assert found == Marks(ahead=((4, DAY + 30 * HOUR),))


def test_the_end_of_a_quiet_spell_is_not_ahead() -> None:
    spans = [timedelta(), *(9 * HOUR + number * MINUTE for number in range(AHEAD_RUN_MAX))]
    found, time = mark(events_at(*spans), PartitionTime())
    assert found == Marks()
    assert time == PartitionTime(DAY + spans[-1])


def test_a_wrong_clock_at_the_end_of_a_quiet_spell_does_not_move_partition_time() -> None:
    quiet = [9 * HOUR + number * MINUTE for number in range(AHEAD_RUN_MAX - 1)]
    found, time = mark(events_at(timedelta(), 900 * HOUR, *quiet), PartitionTime())
    assert time == PartitionTime(DAY + quiet[-1], (DAY + 900 * HOUR,))
    assert found == Marks()
    found, time = mark(events_at(quiet[-1]), time)
    assert found == Marks(ahead=((0, DAY + 900 * HOUR),))


def test_an_hour_beyond_partition_time_is_not_ahead() -> None:
    assert marked(timedelta(), HOUR, timedelta()) == Marks()
    beyond = HOUR + timedelta(microseconds=1)
    assert marked(timedelta(), beyond, timedelta()) == Marks(ahead=((4, DAY + beyond),))


def test_the_ends_of_time_break_nothing() -> None:
    ends = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)]
    spans = [end - DAY for end in (ends[1], ends[0], ends[1], ends[0])]
    found, time = mark(events_at(*spans), PartitionTime())
    assert found.late == {2, 6}
    starts = {key.start for key in fold(events_at(*spans), found)}
    assert starts >= {"0001-01-01T00:00:00Z", "9999-12-31T23:00:00Z"}
    assert PartitionTime.from_text(time.as_text(8), 8) == time


def test_partition_time_reads_back_as_it_was_at_its_position_alone() -> None:
    time = PartitionTime(DAY, (DAY + 2 * HOUR, DAY + 5 * HOUR))
    assert PartitionTime.from_text(time.as_text(7), 7) == time
    assert PartitionTime.from_text(PartitionTime().as_text(0), 0) == PartitionTime()
    assert PartitionTime.from_text(time.as_text(7), 8) is None
    assert PartitionTime.from_text('{"at":null,"run":[]}', 0) is None
    assert PartitionTime.from_text(None, 0) is None


@pytest.mark.parametrize("seed", range(20))
def test_any_borders_find_the_same_marks_as_a_count_by_hand(seed: int) -> None:
    random = Random(seed)
    spans = [
        timedelta(minutes=number * random.choice([1, 20]) + random.choice([0, 0, 0, -90, 90, 300]))
        for number in range(300)
    ]
    events = events_at(*spans)
    late: set[int] = set()
    ahead: list[tuple[int, datetime]] = []
    time = PartitionTime()
    position = 0
    while position < len(events):
        size = random.randrange(1, 40)
        # As a checkpoint keeps it.
        kept = PartitionTime.from_text(time.as_text(position), position)
        assert kept is not None
        time = kept
        found, time = mark(events[position : position + size], time)
        late |= found.late
        ahead += found.ahead
        position += size
    naive_late, naive_ahead = naive_times([format_time(DAY + span) for span in spans])
    assert late == {2 * number for number in naive_late}
    assert [claimed for _, claimed in ahead] == [DAY + spans[number] for number in naive_ahead]


@pytest.mark.parametrize("seed", range(5))
def test_verify_s_own_reading_finds_the_same(seed: int) -> None:
    random = Random(seed)
    spans = [
        timedelta(minutes=number * 20 + random.choice([0, 0, 0, -90, 90, 300, 2_000]))
        for number in range(300)
    ]
    found, _ = mark(events_at(*spans), PartitionTime())
    second = timing.PartitionTime()
    seen = [second.see(1_000 * epoch_ms(DAY + span)) for span in spans]
    assert {2 * number for number, (late, _) in enumerate(seen) if late} == found.late
    shown = [(2 * number, time) for number, (_, times) in enumerate(seen) for time in times]
    assert shown == [(offset, 1_000 * epoch_ms(claimed)) for offset, claimed in found.ahead]
    assert found.late
    assert found.ahead


def test_late_and_ahead_events_count_in_the_hour_of_their_own_time_too() -> None:
    events = events_at(timedelta(), 5 * HOUR, 1 * MINUTE, HOUR, 80 * MINUTE, 2 * MINUTE)
    marks, _ = mark(events, PartitionTime())
    found = fold(events, marks)
    midnight = ItemKey("all", "event-types", "hour", "2026-11-21T00:00:00Z")
    assert found[midnight].delta["events"] == 3
    assert found[midnight].delta["lateEvents"] == 1
    claimed = ItemKey("all", "event-types", "hour", "2026-11-21T05:00:00Z")
    assert found[claimed].delta["events"] == 1
    assert found[claimed].delta["aheadEvents"] == 1
    # What shows it is the event after it.
    assert (found[claimed].first, found[claimed].last) == (2, 4)
