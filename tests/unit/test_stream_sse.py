"""Frames: what goes in comes out of a parser, and nothing can add a field or end a block."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopstream_notifications import sse
from shopstream_stack.sse_parser import SseEvent, SseParser


def parsed(frame: bytes) -> list[SseEvent]:
    return SseParser().feed(frame)


@given(st.text())
def test_no_data_can_add_a_field_or_end_its_block_early(text: str) -> None:
    events = parsed(sse.id_line("abc") + sse.data_block(text.encode("utf-8", "replace")))
    assert len(events) == 1
    assert events[0].type == "message"
    assert events[0].id == "abc"


@given(st.dictionaries(st.text(), st.text()))
def test_json_comes_out_as_it_went_in(value: dict[str, str]) -> None:
    data = json.dumps(value, ensure_ascii=False)
    (event,) = (
        parsed(sse.data_block(data.encode("utf-8", "surrogatepass")))
        if _clean(data)
        else (SseEvent("message", data, ""),)
    )
    assert json.loads(event.data) == value


def _clean(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("bad", ["", "a b", "a\nb", "a\rb", "a\0b", "ä", "a:b"])
def test_an_id_is_nothing_but_url_safe_base64(bad: str) -> None:
    with pytest.raises(ValueError, match="stream id"):
        sse.id_line(bad)


@pytest.mark.parametrize("bad", ["", "stream.open\ndata: x", "Stream", "a b"])
def test_a_control_name_is_letters_and_dots(bad: str) -> None:
    with pytest.raises(ValueError, match="control"):
        sse.control(bad, {})


def test_a_control_event_is_named_and_has_no_id() -> None:
    (event,) = parsed(sse.control("stream.gap", {"reason": "a\nb"}))
    assert event == SseEvent("stream.gap", '{"reason":"a\\nb"}', "")


def test_an_id_only_block_fires_nothing() -> None:
    parser = SseParser()
    assert parser.feed(sse.id_only("abc")) == []
    assert parser.last_event_id == "abc"


def test_the_first_bytes_set_the_reconnect_time_and_hold_a_comment() -> None:
    parser = SseParser()
    assert parser.feed(sse.preamble(1_234)) == []
    assert parser.retry_ms == 1_234
    assert parser.comments == 1


def test_a_heartbeat_is_a_comment_block_and_a_named_event_without_id() -> None:
    parser = SseParser("7")
    frame = sse.heartbeat("2026-01-01T00:00:00.000000Z")
    (event,) = parser.feed(frame)
    assert frame.startswith(b": heartbeat\n\n")
    assert event.type == "stream.heartbeat"
    assert json.loads(event.data) == {"time": "2026-01-01T00:00:00.000000Z"}
    assert parser.last_event_id == "7"
