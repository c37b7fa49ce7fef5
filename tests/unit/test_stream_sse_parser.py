"""The Python client's parser against the cases of the WHATWG standard (`sse_cases.json`)."""

import pytest
from tests.support.sse_cases import Bound, Case, bounds, cases

from shopstream_stack.sse_client import _ChunkedBody
from shopstream_stack.sse_parser import EventTooLong, SseParser


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_parser_reads_it_as_the_standard_says_wherever_it_is_cut(case: Case) -> None:
    for pieces in case.cuts():
        parser = SseParser()
        events = [event for piece in pieces for event in parser.feed(piece)]
        found = tuple((event.type, event.data, event.id) for event in events)
        assert (found, parser.last_event_id, parser.retry_ms) == (
            case.events,
            case.id,
            case.retry,
        ), pieces


@pytest.mark.parametrize("case", bounds(), ids=lambda case: case.name)
def test_what_is_above_the_bound_is_refused_wherever_it_is_cut(case: Bound) -> None:
    for size in (1, 7, len(case.stream)):
        with pytest.raises(EventTooLong):
            _feed(SseParser(bytes_max=case.max), case.stream, size)


def _feed(parser: SseParser, stream: bytes, size: int) -> None:
    for at in range(0, len(stream), size):
        parser.feed(stream[at : at + size])


def test_short_events_are_never_refused_however_many_they_are() -> None:
    parser = SseParser(bytes_max=20)
    assert len(parser.feed(b"data: 1234567890\n\n" * 100)) == 100


def test_an_id_given_at_the_start_stays_until_the_stream_gives_another() -> None:
    parser = SseParser("1")
    (event,) = parser.feed(b"data: a\n\n")
    assert (event.id, parser.last_event_id) == ("1", "1")


def test_comments_are_counted() -> None:
    parser = SseParser()
    parser.feed(b":\n\n: beat\n\n")
    assert parser.comments == 2


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_chunk_framing_is_taken_away_wherever_the_network_cuts(size: int) -> None:
    raw = b"5\r\nhello\r\n1;ext=1\r\n \r\nA\r\n0123456789\r\n0\r\n\r\n"
    body = _ChunkedBody()
    parts = [body.feed(raw[i : i + size]) for i in range(0, len(raw), size)]
    assert b"".join(parts) == b"hello 0123456789"
    assert body.ended
