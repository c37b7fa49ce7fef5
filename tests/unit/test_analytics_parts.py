"""The parts without input or output: batches, lines, files, keys, parameters, settings."""

import json

import msgspec
import pytest
from tests.support.analytics_events import LogRecord, event, inventory_body, record_of

from shopstream_analytics.archive.chain import Link, hour_of, object_key
from shopstream_analytics.archive.file import OpenFile, unpack
from shopstream_analytics.archive.line import attributes_of, line_of, value_of
from shopstream_analytics.consumer.batch import Batch, Discontinuity, Source, join
from shopstream_analytics.cursors import BadCursor
from shopstream_analytics.events import KEY_BYTES_MAX, read_event
from shopstream_analytics.rebuild.run import Wanted
from shopstream_analytics.recent_reader import Cursor, Filters, _hash_of, parse_cursor
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import LogRange, OffsetOutOfRange, TopicRecreated, check_range
from shopstream_analytics.web.parameters import parse_range, parse_recent
from shopstream_analytics.web.problems import InvalidRequest
from shopstream_analytics.worker.report import Lag, Report, decode_report, encode_report
from shopstream_shared.clock import TIME_CHARACTERS_MAX
from shopstream_shared.events.codec import InvalidData

SOURCE = Source("shop.inventory", 0)


def record(offset: int, **changes: object) -> LogRecord:
    made = event("inventory.updated", inventory_body("p1", "s1", 1), subject="p1", seller="s1")
    return record_of(made, offset)._replace(**changes)  # type: ignore[arg-type]  # test's own


def test_batches_join_when_their_positions_chain_and_only_then() -> None:
    first = Batch(SOURCE, 0, 5, [record(1)], 10)
    markers = Batch(SOURCE, 5, 7, [], 0)
    last = Batch(SOURCE, 7, 8, [record(7)], 10)
    joined = join([first, markers, last])
    assert (joined.start, joined.next, joined.size_bytes) == (0, 8, 20)
    assert [one.offset for one in joined.records] == [1, 7]
    with pytest.raises(Discontinuity):
        join([first, last])


def test_a_line_holds_the_event_s_own_bytes() -> None:
    one = record(7)
    line = line_of(one)
    assert line.endswith(b"}\n")
    assert value_of(line) == one.value
    members = attributes_of(line)
    assert list(members) == [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "key",
        "headers",
        "event",
    ]
    assert (members["offset"], members["key"]) == (7, "p1")
    assert members["headers"][2] == ["ce_id", json.loads(one.value or b"")["id"]]


@pytest.mark.parametrize(
    "value", [None, b"", b"no json", b"null", b'{"a":1}', b"\xff", b"\n", b" " * 300_000]
)
def test_a_record_that_is_no_event_keeps_its_bytes_in_base64(value: bytes | None) -> None:
    line = line_of(record(1, value=value, key=b"\xff", headers=[("h", None), ("h", b"\xff")]))
    assert line.count(b"\n") == 1
    members = attributes_of(line)
    assert members["event"] is None
    assert value_of(line) == value
    assert (members["key"], members["keyRaw"]) == (None, "/w==")
    assert members["headers"] == [["h", None], ["h", None, "/w=="]]


def test_an_event_with_a_line_break_inside_cannot_break_a_line() -> None:
    pretty = json.dumps(json.loads(record(1).value or b""), indent=1).encode()
    line = line_of(record(1, value=pretty))
    assert line.count(b"\n") == 1
    assert value_of(line) == pretty


def test_an_id_that_fits_no_index_key_makes_the_event_invalid() -> None:
    long = "s" * (KEY_BYTES_MAX + 1)
    made = event("inventory.updated", inventory_body("p1", long, 1), subject="p1", seller=long)
    with pytest.raises(InvalidData, match="sellerid"):
        read_event(made.value)


def test_an_object_s_key_is_the_hour_of_its_first_record_and_its_offset() -> None:
    assert object_key(Source("shop.orders", 2), 58, 1_795_248_173_756) == (
        "events/topic=shop.orders/year=2026/month=11/day=21/hour=08"
        "/shop.orders+2+00000000000000000058.jsonl.zst"
    )


def fill(file: OpenFile, *records: LogRecord) -> int:
    return file.take(records, 0, bytes_max=10_000_000, most=100)


def test_a_file_is_cut_before_a_record_of_a_later_hour_not_of_an_earlier_one() -> None:
    file = OpenFile(start=0, next=0, opened_at=0.0)
    hour = hour_of(record(0).timestamp) * 3_600_000
    fill(file, record(0, timestamp=hour))
    assert not file.cuts_before(record(1, timestamp=hour + 3_599_999))
    assert not file.cuts_before(record(1, timestamp=hour - 1))
    assert file.cuts_before(record(1, timestamp=hour + 3_600_000))


def test_a_file_takes_records_up_to_a_later_hour_a_count_or_the_line_that_fills_it() -> None:
    hour = hour_of(record(0).timestamp) * 3_600_000
    early = [record(offset, timestamp=hour + offset) for offset in range(4)]
    later = [*early, record(4, timestamp=hour + 3_600_000)]
    line = len(line_of(early[0]))
    for bytes_max, most, taken in ((10**9, 100, 4), (10**9, 3, 3), (line + 1, 100, 2), (1, 100, 1)):
        file = OpenFile(start=0, next=0, opened_at=0.0)
        assert file.take(later, 0, bytes_max=bytes_max, most=most) == taken
        assert (file.count, file.first, file.last, file.next) == (taken, 0, taken - 1, taken)
        body, _ = file.seal("id")
        assert unpack(body) == b"".join(map(line_of, early[:taken]))
        assert file.raw_bytes == len(unpack(body))
        assert file.held_bytes == len(body)


def test_a_file_seals_the_same_way_twice_and_its_rest_starts_where_another_ended() -> None:
    file = OpenFile(start=3, next=3, opened_at=0.0)
    fill(file, *(record(offset) for offset in (4, 6, 8)))
    file.next = 10
    body, link = file.seal("id")
    assert file.seal("id") == (body, link)
    assert (link.start, link.next, link.first, link.last, link.count) == (3, 10, 4, 8, 3)
    assert Link.of(link.metadata()) == link
    rest = file.after(SOURCE, 5, 0.0)
    assert [attributes_of(line)["offset"] for line in unpack(rest.seal("id")[0]).splitlines()] == [
        6,
        8,
    ]
    assert (rest.start, rest.next) == (5, 10)


def test_a_checkpoint_outside_of_the_log_is_refused() -> None:
    check_range(SOURCE, 5, LogRange(5, 5))
    for position in (4, 6):
        with pytest.raises(OffsetOutOfRange, match=r"outside of the log, .*; see `The log has"):
            check_range(SOURCE, position, LogRange(5, 5))


def test_a_topic_that_was_made_again_names_the_command_that_goes_on() -> None:
    assert str(TopicRecreated("shop.orders has id x")).endswith(
        "`shopstream topics adopt` (docs/topics.md)"
    )


def test_a_rebuild_counts_the_processors_also_where_nobody_says_which_are_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """macOS has no sched_getaffinity."""
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert Wanted().processes == 7


def test_a_cursor_is_read_back_and_refused_with_other_filters_or_when_forged() -> None:
    filters = Filters(seller_id="s1")
    cursor = Cursor("2026-11-21T00:00:00.000000Z", "e1", back=False, filters=_hash_of(filters))
    assert parse_cursor(cursor.encode(), filters) == cursor
    with pytest.raises(BadCursor):
        parse_cursor(cursor.encode(), Filters(seller_id="s2"))
    for forged in ("", "x", "é", "e30", "A" * 600, "A" * 9_000):
        with pytest.raises(BadCursor):
            parse_cursor(forged, filters)
    for timestamp, event_id in (("", ""), ("", "e1"), ("x" * 2_000, "e1"), (cursor.timestamp, "")):
        forged_too = Cursor(timestamp, event_id, back=False, filters=cursor.filters)
        with pytest.raises(BadCursor):
            parse_cursor(forged_too.encode(), filters)


def test_every_cursor_that_is_handed_out_is_taken_back_whatever_the_event_s_id() -> None:
    longest = "\x01" * KEY_BYTES_MAX
    filters = Filters(seller_id=longest, event_type="order.created", subject=longest)
    time = "2026-11-21T00:00:00." + "0" * 38 + "+00:00"
    assert len(time) == TIME_CHARACTERS_MAX
    cursor = Cursor(time, longest, back=True, filters=_hash_of(filters))
    assert parse_cursor(cursor.encode(), filters) == cursor


def test_a_range_of_time_is_inclusive_at_its_start_and_exclusive_at_its_end() -> None:
    granularity, window = parse_range("2026-11-21T05:00:00Z", "2026-11-21T08:00:00+01:00", "day")
    assert granularity == "day"
    assert window.bounds("hour") == ("2026-11-21T05:00:00Z", "2026-11-21T06:00:00Z")
    # The day itself began before.
    assert window.bounds("day") == ("2026-11-22T00:00:00Z", "2026-11-21T00:00:00Z")


@pytest.mark.parametrize(
    "query",
    [
        ("2026-11-21T06:00:00Z", "2026-11-21T05:00:00Z", None),
        ("yesterday", None, None),
        ("2026-11-21T05:00:00", None, None),
        ("", None, None),
        (None, None, "week"),
        (None, None, ""),
    ],
)
def test_a_bad_range_is_an_invalid_request(
    query: tuple[str | None, str | None, str | None],
) -> None:
    with pytest.raises(InvalidRequest):
        parse_range(*query)


@pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "", "1.5", "9" * 5_000, "²"])
def test_a_bad_limit_is_an_invalid_request(limit: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_recent(Filters(), limit)


def test_an_unknown_type_or_an_empty_filter_is_an_invalid_request() -> None:
    assert parse_recent(Filters("s1", "order.paid", "o1"), "500") == 500
    for filters in (Filters(event_type="order.dreamt"), Filters(seller_id=""), Filters(subject="")):
        with pytest.raises(InvalidRequest):
            parse_recent(filters, None)


def test_a_report_survives_its_line() -> None:
    report = Report(
        state="waiting",
        reason="broker: away",
        trouble=None,
        lags=[Lag("shop.orders", 0, 1, None)],
        counters={"records": 1},
    )
    assert decode_report(encode_report(report)) == report
    with pytest.raises(msgspec.MsgspecError):
        decode_report(encode_report(report)[5:])


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEALTH_PORT", "http"),
        ("KAFKA_BROKERS", "nowhere"),
        ("DYNAMO_ENDPOINT", "localhost"),
        ("MINIO_SECRET_KEY", None),
        ("SHOPSTREAM_ARCHIVE_ROTATE_SECONDS", "0"),
        ("RECENT_EVENTS_TABLE_NAME", "Aggregates"),
    ],
)
def test_a_wrong_variable_is_one_line_and_exit_2(
    variable: str,
    value: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "fake",
        "AWS_SECRET_ACCESS_KEY": "fake",
        "MINIO_ACCESS_KEY": "minio",
        "MINIO_SECRET_KEY": "minio123",
        variable: value,
    }
    for name, text in environ.items():
        if text is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, text)
    with pytest.raises(SystemExit) as ended:
        AnalyticsSettings.read_or_exit()
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert variable in line or "table names" in line
