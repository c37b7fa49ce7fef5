"""The notifications service on a real broker: live, resumed, filtered, refused."""

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from tests.support.analytics import empty_topics
from tests.support.components import LocalComponents
from tests.support.stream_service import Publisher, StreamService, an_event
from tests.support.system import wait_until

from shopstream_shared.clock import epoch_ms, format_time
from shopstream_shared.events.codec import EVENT_BYTES_MAX
from shopstream_shared.topics import INVENTORY, STREAM_TOPICS
from shopstream_stack.sse_client import SseRefused
from shopstream_stack.stream_ids import unresumable

TYPES = ("product.created", "order.created", "inventory.updated", "product.low_stock")


@pytest.fixture(scope="module")
def brokers(session_components: LocalComponents) -> str:
    return session_components.kafka_brokers


@pytest.fixture(scope="module")
def publisher(brokers: str) -> Publisher:
    return Publisher(brokers)


@pytest.fixture(scope="module")
def service(brokers: str, publisher: Publisher) -> Iterator[StreamService]:
    # Other tests have written events of times to come, which every replay by time would find.
    empty_topics(brokers)
    with StreamService(brokers, SHOPSTREAM_HEARTBEAT_SECONDS="1") as service:
        yield service


def test_an_event_arrives_byte_for_byte_with_an_id_and_without_a_name(
    service: StreamService, publisher: Publisher
) -> None:
    async def run() -> None:
        stream = await (await service.connect()).opened()
        assert stream.named("stream.open") == [{"resumed": False, "replayFrom": None}]
        events = [an_event(name) for name in TYPES]
        publisher.publish(*events)
        await stream.got(events)
        ids = [event.id for event in stream.events if event.is_message]
        assert len(set(ids)) == len(ids)
        stream.cut()

    asyncio.run(run())


def test_e01_the_position_is_committed_without_a_member_and_lag_reads_zero(
    service: StreamService, publisher: Publisher, brokers: str
) -> None:
    publisher.publish(*(an_event(name) for name in TYPES))
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "notifications-service"})
    parts = [TopicPartition(topic, p) for topic in STREAM_TOPICS for p in range(3)]

    def caught_up() -> bool:
        committed = consumer.committed(parts, timeout=10)
        ends = [consumer.get_watermark_offsets(part, timeout=10)[1] for part in parts]
        return [part.offset for part in committed] == ends

    try:
        wait_until(caught_up, "the group to stand at the end, markers included", seconds_max=20)
    finally:
        consumer.close()
    admin = AdminClient({"bootstrap.servers": brokers})
    groups = admin.describe_consumer_groups(["notifications-service"])
    assert groups["notifications-service"].result(10).members == []


def test_e02_a_client_cut_before_its_first_event_misses_nothing_in_any_partition(
    service: StreamService, publisher: Publisher
) -> None:
    async def run() -> None:
        stream = await (await service.connect()).opened()
        stream.cut()
        events = [an_event(name) for name in TYPES for _ in range(5)]
        publisher.publish(*events)
        again = await service.connect(last_event_id=stream.last_id)
        await again.got(events)
        assert again.named("stream.open") == [{"resumed": True, "replayFrom": stream.last_id}]
        again.cut()

    asyncio.run(run())


def test_e03_events_of_one_millisecond_are_told_apart_by_resume(
    service: StreamService, publisher: Publisher
) -> None:
    async def run() -> None:
        stream = await (await service.connect()).opened()
        at = datetime.now(UTC)
        events = [an_event(at=at, subject="one") for _ in range(6)]
        publisher.publish(*events)
        await stream.until(lambda: len(stream.data) >= 6)
        third = [event.id for event in stream.events if event.is_message][2]
        again = await service.connect(last_event_id=third)
        await again.got(events[3:])
        assert again.data == [event.value for event in events[3:]], "in order"
        stream.cut()
        again.cut()

    asyncio.run(run())


@pytest.mark.parametrize("way", ["hot", "cold"])
def test_e05_a_client_that_is_cut_again_and_again_gets_all_once(
    brokers: str, publisher: Publisher, way: str
) -> None:
    """Cold: every resume meets a service that was killed and has an empty memory."""

    async def run(service: StreamService) -> None:
        stream = await (await service.connect()).opened()
        sent = []
        got: list[bytes] = []
        for turn in range(3):
            events = [an_event(name, subject=f"s{i}") for name in TYPES for i in range(20)]
            sent += events
            publisher.publish(*events[:40])
            await stream.more(1 + 7 * turn)
            stream.cut()
            got += stream.data
            if way == "cold":
                service.restart()
            publisher.publish(*events[40:])
            stream = await service.connect(last_event_id=stream.last_id)
        await stream.until(lambda: len(got) + len(stream.data) >= len(sent))
        marker = an_event()
        publisher.publish(marker)
        await stream.until(lambda: marker.value in stream.data)
        assert sorted([*got, *stream.data]) == sorted(e.value for e in [*sent, marker])
        stream.cut()

    with StreamService(brokers) as own:
        asyncio.run(run(own))
        outcome = own.get("/metrics").text
    assert f'shopstream_stream_resumed_total{{outcome="{way}"}}' in outcome


def test_a_cold_replay_of_thousands_is_complete_and_goes_live(
    brokers: str, publisher: Publisher
) -> None:
    async def run(service: StreamService) -> None:
        stream = await (await service.connect()).opened()
        stream.cut()
        events = [an_event(subject=f"s{i % 50}") for i in range(6_000)]
        publisher.publish(*events)
        service.restart()
        again = await service.connect(last_event_id=stream.last_id)
        await again.until(lambda: len(again.data) >= 3_000)
        live = an_event()
        publisher.publish(live)
        await again.got([*events, live], 60)
        again.cut()

    with StreamService(brokers) as own:
        asyncio.run(run(own))


@pytest.mark.parametrize("form", ["Z", "offset", "milliseconds"])
def test_since_replays_from_that_moment_on_inclusive(
    service: StreamService, publisher: Publisher, form: str
) -> None:
    async def run() -> None:
        before, at = datetime.now(UTC), datetime.now(UTC) + timedelta(milliseconds=5)
        publisher.publish(an_event(at=before - timedelta(seconds=1), subject="a"))
        events = [an_event(name, at=at, subject="a") for name in TYPES]
        publisher.publish(*events)
        since = {
            "Z": format_time(at),
            "offset": at.astimezone().isoformat(),
            "milliseconds": str(epoch_ms(at)),
        }[form]
        stream = await service.connect(f"?since={since}".replace("+", "%2B"))
        await stream.got(events)
        assert stream.named("stream.open") == [{"resumed": False, "replayFrom": since}]
        # Another read with the header: it wins over since.
        header = await service.connect(f"?since={epoch_ms(at)}", last_event_id=stream.last_id)
        await header.opened()
        assert header.named("stream.open")[0]["resumed"] is True
        stream.cut()
        header.cut()

    asyncio.run(run())


def test_an_empty_id_falls_through_to_the_next_way(service: StreamService) -> None:
    async def run() -> None:
        moment = format_time(datetime.now(UTC) + timedelta(hours=1))
        first = await (
            await service.connect(f"?lastEventId=&since={moment}", headers={"Last-Event-ID": ""})
        ).opened()
        assert first.named("stream.open") == [{"resumed": False, "replayFrom": moment}]
        query = await (await service.connect(f"?lastEventId={first.last_id}")).opened()
        assert query.named("stream.open")[0]["resumed"] is True
        first.cut()
        query.cut()

    asyncio.run(run())


@pytest.mark.parametrize("bytes_of_no_text", ["%FF%00", "%ED%A0%80", "%0D%0A"])
def test_an_id_of_any_bytes_is_a_gap_and_never_an_error(
    service: StreamService, bytes_of_no_text: str
) -> None:
    async def run() -> None:
        stream = await service.connect(f"?lastEventId={bytes_of_no_text}")
        await stream.until(lambda: stream.named("stream.gap"))
        (gap,) = stream.named("stream.gap")
        assert (gap["reason"], gap["from"]) == ("malformed_id", None)
        stream.cut()

    asyncio.run(run())


def test_a_plus_sign_that_was_not_escaped_is_told_as_it_was_written(
    service: StreamService,
) -> None:
    async def run() -> None:
        stream = await (await service.connect("?since=2026-01-01T00:00:00+02:00")).opened()
        (opened,) = stream.named("stream.open")
        assert opened == {"resumed": False, "replayFrom": "2026-01-01T00:00:00+02:00"}
        stream.cut()

    asyncio.run(run())


@pytest.mark.parametrize("reason", ["malformed_id", "unknown_epoch", "future"])
def test_e07_an_id_that_cannot_be_resumed_is_a_gap_and_then_live(
    service: StreamService, publisher: Publisher, brokers: str, reason: str
) -> None:
    async def run() -> None:
        given = "nonsense!"
        if reason == "future":
            given = unresumable(brokers, "future")
        elif reason == "unknown_epoch":
            given = unresumable(brokers, "unknown-epoch")
        stream = await service.connect(last_event_id=given)
        await stream.until(lambda: stream.named("stream.gap"))
        (gap,) = stream.named("stream.gap")
        assert gap["reason"] == reason
        assert gap["from"] == (None if reason == "malformed_id" else given)
        assert gap["to"] == stream.last_id
        event = an_event()
        publisher.publish(event)
        await stream.got([event])
        stream.cut()

    asyncio.run(run())


def test_e07_an_id_from_before_what_retention_left_is_evicted(
    service: StreamService, publisher: Publisher, brokers: str
) -> None:
    async def run() -> None:
        stream = await (await service.connect()).opened()
        stream.cut()
        events = [an_event("inventory.updated") for _ in range(20)]
        publisher.publish(*events)
        service.restart()  # or it would serve the events from memory
        admin = AdminClient({"bootstrap.servers": brokers})
        ends = [TopicPartition(INVENTORY, p, -1) for p in range(3)]
        for future in admin.delete_records(ends).values():
            future.result(10)
        again = await service.connect(last_event_id=stream.last_id)
        await again.until(lambda: again.named("stream.gap"))
        assert again.named("stream.gap")[0]["reason"] == "evicted"
        event = an_event()
        publisher.publish(event)
        await again.got([event])
        again.cut()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("?types=order.created", ["order.created"]),
        ("?types=product.*", ["product.created", "product.created", "product.low_stock"]),
        ("?types=order.*,inventory.updated&sellerId=s1", ["order.created", "inventory.updated"]),
        ("?sellerId=s2", ["product.created"]),
        ("?subject=the-one", ["product.created"]),
        ("?types=*&sellerId=&subject=&policy=resume", [*TYPES, "product.created"]),
    ],
)
def test_filters_choose_by_type_seller_and_subject(
    service: StreamService, publisher: Publisher, query: str, wanted: list[str]
) -> None:
    async def run() -> None:
        stream = await (await service.connect(query)).opened()
        everything = await (await service.connect()).opened()
        events = [an_event(name) for name in TYPES]
        events.append(an_event("product.created", seller="s2", subject="the-one"))
        publisher.publish(*events)
        await everything.got(events)
        await stream.until(lambda: len(stream.data) >= len(wanted))
        assert sorted(json.loads(data)["type"] for data in stream.data) == sorted(wanted)
        stream.cut()
        everything.cut()

    asyncio.run(run())


def test_aborted_and_unreadable_records_are_never_seen(
    service: StreamService, publisher: Publisher
) -> None:
    async def run() -> None:
        stream = await (await service.connect()).opened()
        publisher.begin([an_event() for _ in range(10)])
        publisher.abort()
        unknown = an_event().value.replace(b"product.created", b"product.dreamt")
        huge = b'{"x":"' + b"x" * EVENT_BYTES_MAX + b'"}'
        publisher.raw("shop.products", b"not json", None, b"{}", unknown, huge)
        good = an_event()
        publisher.publish(good)
        await stream.got([good])
        stream.cut()
        again = await service.connect(last_event_id=stream.last_id)
        await again.opened()
        assert again.data == []
        again.cut()

    asyncio.run(run())


def test_a_transaction_open_at_the_first_visit_is_delivered_when_it_commits(
    brokers: str, publisher: Publisher
) -> None:
    async def run() -> None:
        event = an_event()
        publisher.begin([event])
        with StreamService(brokers) as service:
            stream = await (await service.connect()).opened()
            publisher.commit()
            await stream.got([event])
            stream.cut()

    asyncio.run(run())


def test_e09_heartbeats_come_as_comment_and_as_named_event(service: StreamService) -> None:
    async def run() -> None:
        stream = await (await service.connect("?sellerId=nobody")).opened()
        comments = stream.connection.parser.comments
        await stream.until(lambda: len(stream.named("stream.heartbeat")) >= 2)
        assert stream.connection.parser.comments >= comments + 2
        assert all(set(beat) == {"time"} for beat in stream.named("stream.heartbeat"))
        stream.cut()

    asyncio.run(run())


def test_e10_the_answer_begins_at_once_with_the_contracts_headers(service: StreamService) -> None:
    with httpx.stream("GET", f"{service.url}/events/stream", timeout=5) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "connection" not in answer.headers
        first = next(answer.iter_bytes())
    assert first.startswith(b": ")
    assert b"retry: " in first


def test_e23_each_client_is_told_a_reconnect_time_of_its_own(service: StreamService) -> None:
    """Of a process that was killed nobody hears a goodbye; all of its clients must not come back
    in the same moment."""

    def retry() -> bytes:
        with httpx.stream("GET", f"{service.url}/events/stream", timeout=5) as answer:
            found = re.search(rb"retry: (\d+)", next(answer.iter_bytes()))
            assert found is not None
            return found[1]

    told = {int(retry()) for _ in range(8)}
    assert len(told) > 4
    assert all(1_000 <= milliseconds <= 3_000 for milliseconds in told)


def test_a_hangup_does_not_end_a_single_worker(service: StreamService) -> None:
    """Of several it is a rolling restart; one has no successor."""
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "stream.sighup_ignored" in service.log(), "the warning")
    assert httpx.get(f"{service.url}/health", timeout=5).status_code == 200


def test_head_answers_with_the_headers_alone(service: StreamService) -> None:
    answer = httpx.head(f"{service.url}/events/stream", timeout=5)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused_with_a_problem(service: StreamService, method: str) -> None:
    answer = httpx.request(method, f"{service.url}/events/stream", timeout=5)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("types=product", "types"),
        ("types=product.unknown", "types"),
        ("types=product.*,", "types"),
        ("policy=never", "policy"),
        ("since=yesterday", "since"),
        ("since=2026-01-01T00:00:00", "since"),
        ("since=-1", "since"),
        ("since=1767225600", "since"),
        ("since=99999999999999999999", "since"),
        ("sellerId=a&sellerId=b", "sellerId"),
        ("sellerId=%FF", "sellerId"),
        ("types=%FF", "types"),
        (f"subject={'x' * 300}", "subject"),
    ],
)
def test_a_wrong_parameter_is_a_problem_that_names_it(
    service: StreamService, query: str, parameter: str
) -> None:
    answer = service.get(f"/events/stream?{query}", headers={"X-Request-Id": "r-1"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["errors"][0]["pointer"] == f"/{parameter}"
    assert problem["code"] == "validation_failed"
    assert problem["requestId"] == "r-1"
    assert problem["instance"] == "/events/stream"


def test_browsers_of_any_origin_may_read_and_resume(service: StreamService) -> None:
    origin = {"Origin": "http://shop.example"}
    asked = {"Access-Control-Request-Method": "GET", **origin}
    preflight = httpx.options(
        f"{service.url}/events/stream",
        headers={"Access-Control-Request-Headers": "last-event-id", **asked},
        timeout=5,
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "last-event-id" in preflight.headers["access-control-allow-headers"]
    answer = httpx.head(f"{service.url}/events/stream", headers=origin, timeout=5)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


def test_an_unknown_path_is_a_problem(service: StreamService) -> None:
    answer = service.get("/nothing")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_metrics_tell_how_streams_began_and_ended(service: StreamService) -> None:
    async def run() -> None:
        stream = await (await service.connect()).opened()
        stream.cut()
        with pytest.raises(SseRefused):
            await service.connect("?policy=never")

    asyncio.run(run())
    wait_until(
        lambda: 'closed_total{reason="client"}' in service.get("/metrics").text, "the close counted"
    )
    text = service.get("/metrics").text
    for name in ("connections", "opened_total", "frames_total", "log_bytes", "consumer_lag"):
        assert f"shopstream_stream_{name}" in text
    assert "shopstream_stream_delivery_seconds_bucket" in text
