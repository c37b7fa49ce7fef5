"""The parser against the cases of the WHATWG standard and of web-platform-tests eventsource/."""

import pytest

from shopstream_stack import sse_parser
from shopstream_stack.sse_client import _ChunkedBody
from shopstream_stack.sse_parser import LineTooLong, SseEvent, SseParser


def parse(text: bytes) -> list[SseEvent]:
    return SseParser().feed(text)


CASES = {
    "one line of data": (b"data: a\n\n", [("message", "a", "")]),
    "lines of data are joined by a line feed": (b"data: a\ndata:b\n\n", [("message", "a\nb", "")]),
    "only one leading space is taken away": (b"data:  a\n\n", [("message", " a", "")]),
    "a field without a colon has an empty value": (
        b"data\n\ndata\ndata\n\n",
        [("message", "", ""), ("message", "\n", "")],
    ),
    "a carriage return ends a line": (b"data: a\r\r", [("message", "a", "")]),
    "CR LF ends one line": (b"data: a\r\ndata: b\r\n\r\n", [("message", "a\nb", "")]),
    "a leading byte order mark is no part of the first field": (
        b"\xef\xbb\xbfdata: a\n\n",
        [("message", "a", "")],
    ),
    "a second byte order mark is part of a field": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    "a comment is no event": (b": hello\n\ndata: a\n\n", [("message", "a", "")]),
    "an unknown field is ignored": (b"nonsense: x\ndata: a\n\n", [("message", "a", "")]),
    "a name goes with its own event only": (
        b"event: named\ndata: a\n\ndata: b\n\n",
        [("named", "a", ""), ("message", "b", "")],
    ),
    "a name without data fires nothing": (b"event: named\n\ndata: b\n\n", [("message", "b", "")]),
    "an id stays for the events after it": (
        b"id: 1\ndata: a\n\ndata: b\n\n",
        [("message", "a", "1"), ("message", "b", "1")],
    ),
    "an empty id resets it": (
        b"id: 1\ndata: a\n\nid\ndata: b\n\n",
        [("message", "a", "1"), ("message", "b", "")],
    ),
    "an id with NUL is ignored": (
        b"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n",
        [("message", "a", "1"), ("message", "b", "1")],
    ),
    "an event that nothing ends is not given out": (
        b"data: a\n\ndata: b\n",
        [("message", "a", "")],
    ),
    "broken UTF-8 is replaced": (b"data: \xff\n\n", [("message", "\N{REPLACEMENT CHARACTER}", "")]),
}


@pytest.mark.parametrize(("stream", "expected"), CASES.values(), ids=CASES.keys())
def test_the_parser_reads_it_as_the_standard_says(
    stream: bytes, expected: list[tuple[str, str, str]]
) -> None:
    assert [(event.type, event.data, event.id) for event in parse(stream)] == expected


@pytest.mark.parametrize(("stream", "expected"), CASES.values(), ids=CASES.keys())
def test_chunks_of_one_byte_give_the_same_events(
    stream: bytes, expected: list[tuple[str, str, str]]
) -> None:
    parser = SseParser()
    events = [event for i in range(len(stream)) for event in parser.feed(stream[i : i + 1])]
    assert [(event.type, event.data, event.id) for event in events] == expected


def test_an_id_only_block_moves_the_resume_point_and_fires_nothing() -> None:
    parser = SseParser()
    assert parser.feed(b"id: 7\n\n") == []
    assert parser.last_event_id == "7"


def test_an_id_counts_only_when_its_block_is_complete() -> None:
    parser = SseParser("1")
    parser.feed(b"id: 2\ndata: x\n")
    assert parser.last_event_id == "1"


@pytest.mark.parametrize("bogus", [b"1e3", b"-1", b"3 ", b"x", b"\xc2\xb2", b""])
def test_a_retry_that_is_not_all_digits_is_ignored(bogus: bytes) -> None:
    parser = SseParser()
    parser.feed(b"retry: 250\nretry: " + bogus + b"\n")
    assert parser.retry_ms == 250


def test_comments_are_counted() -> None:
    parser = SseParser()
    parser.feed(b":\n\n: beat\n\n")
    assert parser.comments == 2


def test_a_line_without_end_is_refused_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse_parser, "LINE_BYTES_MAX", 10)
    with pytest.raises(LineTooLong):
        parse(b"data: 1234567890")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_chunk_framing_is_taken_away_wherever_the_network_cuts(size: int) -> None:
    raw = b"5\r\nhello\r\n1;ext=1\r\n \r\nA\r\n0123456789\r\n0\r\n\r\n"
    body = _ChunkedBody()
    parts = [body.feed(raw[i : i + size]) for i in range(0, len(raw), size)]
    assert b"".join(parts) == b"hello 0123456789"
    assert body.ended
