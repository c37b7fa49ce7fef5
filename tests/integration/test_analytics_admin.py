"""What operators see: dead letters in pages, verify's report, the overview, and who may."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
from confluent_kafka import Producer
from tests.support.analytics import (
    Analytics,
    dynamo_client,
    ensure_topics,
    producer,
    send,
    wait_until,
)
from tests.support.analytics_events import (
    LogRecord,
    Shop,
    event,
    inventory_body,
    naive_counts,
    record_of,
    with_product_days,
)
from tests.support.analytics_reads import PARTITIONS, Reading, reading
from tests.support.components import LocalComponents

from shopstream_analytics.admin.replay import _settled_marker, _Target
from shopstream_analytics.aggregates.fold import fold
from shopstream_analytics.aggregates.sink import Letter
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.dead_letters import PartitionLetters
from shopstream_analytics.events import read_event
from shopstream_analytics.progress import Progress
from shopstream_analytics.sink import LogRange
from shopstream_shared.archive.keys import Place
from shopstream_shared.events.codec import EncodedEvent
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import DEAD_LETTER, ORDERS
from shopstream_stack.verify.tables import Tables

TOKEN = "a-token-of-operators"
SOURCE = Source("shop.orders", 1)


@pytest.fixture
def api(components: LocalComponents) -> Iterator[Reading]:
    components.up("kafka", "dynamodb")
    ensure_topics(components.kafka_brokers)
    with reading(components, KAFKA_BROKERS=components.kafka_brokers) as running:
        yield running


def letter(offset: int, key: bytes | None = b"k") -> Letter:
    record = LogRecord(*SOURCE, offset, 0, key, b"no json", [("dlq_offset", b"7")])
    return Letter(record, "malformed", f"letter {offset}")


def set_aside(api: Reading, *offsets: int) -> None:
    """Letters of records far past the log's end: no other test's events shall have one."""
    kafka = KafkaConnection(api.settings.kafka_brokers, "tests")
    letters = PartitionLetters(kafka, SOURCE, Progress())
    for offset in offsets:
        asyncio.run(letters.send([letter(offset)], since=offset))


def offsets_of(page: dict[str, Any]) -> list[int]:
    return [row["offset"] for row in page["data"]]


def test_letters_come_newest_first_in_pages_that_stay_exact_while_others_come(
    api: Reading,
) -> None:
    set_aside(api, *range(9_001_000, 9_001_007))
    first = api.get("/admin/dead-letters?limit=3").json()
    assert offsets_of(first) == [9_001_006, 9_001_005, 9_001_004]
    row = first["data"][0]
    assert row.pop("at").endswith("Z")
    assert row == {
        "topic": "shop.orders",
        "partition": 1,
        "offset": 9_001_006,
        "key": "k",
        "reason": "malformed",
        "detail": "letter 9001006",
    }
    set_aside(api, 9_001_007)
    second = api.get(f"/admin/dead-letters?limit=3&cursor={first['nextCursor']}").json()
    assert offsets_of(second) == [9_001_003, 9_001_002, 9_001_001]
    assert offsets_of(api.get("/admin/dead-letters?limit=1").json()) == [9_001_007]
    third = api.get(f"/admin/dead-letters?limit=200&cursor={second['nextCursor']}").json()
    assert offsets_of(third)[0] == 9_001_000
    assert (third["hasMore"], third["nextCursor"]) == (False, None)


def test_letters_of_one_place_in_two_lives_of_its_topic_are_told_apart(api: Reading) -> None:
    kafka = KafkaConnection(api.settings.kafka_brokers, "tests")
    for epoch in (0, 1):
        letters = PartitionLetters(kafka, SOURCE, Progress(), epoch)
        asyncio.run(letters.send([letter(9_004_000)], since=9_004_000))
    rows = api.get("/admin/dead-letters?limit=2").json()["data"]
    assert [(row["offset"], row.get("epoch")) for row in rows] == [
        (9_004_000, 1),
        (9_004_000, None),
    ]
    path = "/admin/dead-letters/shop.orders/1/9004000/replay"
    # In its first life, as far as is noted here.
    for query, code in (
        ("", "still_unreadable"),
        ("?epoch=0", "still_unreadable"),
        ("?epoch=1", "not_found"),
        ("?epoch=x", "validation_failed"),
    ):
        assert api.request("POST", path + query).json()["code"] == code


def test_what_is_no_letter_on_the_letters_topic_is_passed_over(api: Reading) -> None:
    set_aside(api, 9_002_000)
    foreign = Producer(KafkaConnection(api.settings.kafka_brokers, "x").idempotent_producer())
    foreign.produce(DEAD_LETTER, value=b"?")
    half = {"dlq_topic": b"shop.orders", "dlq_partition": b"x"}
    foreign.produce(DEAD_LETTER, value=b"?", headers={**half})
    foreign.flush()
    assert offsets_of(api.get("/admin/dead-letters?limit=1").json()) == [9_002_000]


def test_wrong_parameters_of_the_letters_are_problems(api: Reading) -> None:
    for cursor in ("x", "é", "A" * 3_000, "W10"):
        refused = api.get("/admin/dead-letters", params={"cursor": cursor})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")
    for limit in ("0", "201", "x"):
        refused = api.get(f"/admin/dead-letters?limit={limit}")
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")


def aside(api: Reading, made: EncodedEvent, offset: int, partition: int = 0) -> str:
    """Let a letter lie of a record that an earlier version could not read; its replay's path."""
    kafka = KafkaConnection(api.settings.kafka_brokers, "tests")
    source = Source(made.topic, partition)
    letters = PartitionLetters(kafka, source, Progress())
    letter = Letter(record_of(made, offset, partition), "unknown_type", "not known")
    asyncio.run(letters.send([letter], since=offset))
    return f"/admin/dead-letters/{source.topic}/{partition}/{offset}/replay"


def test_a_letter_that_can_be_read_now_is_taken_in_once_however_often_it_is_replayed(
    api: Reading,
) -> None:
    shop = Shop(seed=31)
    lives = [one for _ in range(6) for one in shop.order_life()]
    missed = next(one for one in lives if one.type == "order.paid")
    source = Source(ORDERS, crc32(missed.subject.encode()) % PARTITIONS)
    others = [one for one in lives if one is not missed]
    before = [one for one in others if one.time <= missed.time]
    api.feed(before)
    offset = api.ends[source]
    api.ends[source] += 1
    # The worker passes the letter, and what comes later is counted.
    lane = api.run(lambda: api.sinks[0].open(source, LogRange(0, 10**9)))
    api.run(lambda: lane.write(Batch(source, offset, offset + 1, [])))
    api.open.pop((0, source), None)
    lane = api.run(lambda: api.sinks[1].open(source, LogRange(0, 10**9)))
    api.run(lambda: lane.write(Batch(source, offset, offset + 1, [])))
    api.open.pop((1, source), None)
    api.feed([one for one in others if one.time > missed.time])
    path = aside(api, missed, offset, source.partition)
    api.get(f"/aggregates/sellers/{missed.seller_id}")

    first = api.request("POST", path)
    assert first.status_code == 200, first.text
    assert first.json()["eventId"] == missed.id
    assert first.json()["items"] > 5
    for _ in range(2):
        assert api.request("POST", path).json()["items"] == 0
    naive = with_product_days(naive_counts(one.value for one in lives))
    for key, counters in naive.items():
        dimension, name, granularity, start = key[:4]
        if dimension not in {"seller", "product"}:
            continue
        answer = api.get(f"/aggregates/{dimension}s/{name}?granularity={granularity}").json()
        bucket = next(one for one in answer["buckets"] if one["start"] == start)
        assert bucket["events"] == counters["events"]
        assert bucket["revenueMinor"].get("USD", 0) == counters.get("revenueMinor#USD", 0)
    page = api.get(f"/events/recent?subject={missed.subject}&limit=500").json()
    assert [one["eventId"] for one in page["data"]].count(missed.id) == 1


def replayed(api: Reading, source: Source) -> set[tuple[str, int, int]]:
    """What verify takes for replayed: the letters that are whole."""
    settings = api.settings
    target: Any = SimpleNamespace(checkpoints_table=settings.checkpoints_table)
    client = dynamo_client(
        {
            "DYNAMO_ENDPOINT": str(settings.dynamo_endpoint),
            "AWS_ACCESS_KEY_ID": settings.aws_access_key_id.get_secret_value(),
            "AWS_SECRET_ACCESS_KEY": settings.aws_secret_access_key.get_secret_value(),
        }
    )
    tables = Tables(target, client)
    place = Place(source.topic, source.partition)
    assert tables.replayed({place: "of another life"}) == set()
    return tables.replayed({place: f"id-of-{source.topic}"})


def test_a_replay_that_was_cut_short_goes_on_where_it_stopped(api: Reading) -> None:
    made = event("inventory.updated", inventory_body("p", "cut", 1), subject="p", seller="cut")
    source = Source(made.topic, 0)
    lane = api.run(lambda: api.sinks[0].open(source, LogRange(0, 10**9)))
    api.run(lambda: lane.write(Batch(source, 0, 6, [])))
    path = aside(api, made, 5)
    generation = api.run(api.resources.replays.generations.current)
    marker = api.run(lambda: _settled_marker(generation.checkpoints, source, 5))
    client, markers = api.resources.replays.client, generation.checkpoints.table
    target = _Target(client, generation.table, markers, marker)
    gains = fold([(5, read_event(made.value))])
    for key, gain in list(gains.items())[:3]:
        assert api.run(lambda key=key, gain=gain: target.add(source, key, gain))  # type: ignore[misc]  # bound by default
    assert replayed(api, source) == set()
    rest = api.request("POST", path).json()
    assert rest["items"] == len(gains) - 3
    assert replayed(api, source) == {(source.topic, 0, 5)}
    for granularity in ("hour", "day"):
        answer = api.get(f"/aggregates/sellers/cut?granularity={granularity}").json()
        assert answer["totals"]["events"] == 1


def test_a_replay_is_refused_while_it_would_be_wrong(api: Reading) -> None:
    set_aside(api, 9_003_000)
    unreadable = api.request("POST", "/admin/dead-letters/shop.orders/1/9003000/replay")
    assert (unreadable.status_code, unreadable.json()["code"]) == (409, "still_unreadable")
    assert "malformed" in unreadable.json()["detail"]
    for place in ("shop.orders/1/2999", "shop.users/0/1", "shop.orders/x/1", "shop.orders/1/-1"):
        missing = api.request("POST", f"/admin/dead-letters/{place}/replay")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")

    made = event("inventory.updated", inventory_body("p", "s", 1), subject="p", seller="s")
    source = Source(made.topic, 1)
    early = aside(api, made, 0, partition=1)
    assert api.request("POST", early).json()["code"] == "not_settled"
    # The worker meets the record after all, with a version that can read it.
    lane = api.run(lambda: api.sinks[0].open(source, LogRange(0, 10**9)))
    api.run(lambda: lane.write(Batch(source, 0, 1, [record_of(made, 0, 1)])))
    assert api.request("POST", early).json()["code"] == "already_counted"
    assert api.get("/aggregates/sellers/s").json()["totals"]["events"] == 1

    elsewhere = api.request("POST", early, headers={"sec-fetch-site": "cross-site"})
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "forbidden")


def test_with_the_broker_away_letters_are_503_and_the_overview_is_still_answered(
    components: LocalComponents,
) -> None:
    with reading(components) as api:
        away = api.get("/admin/dead-letters")
        assert (away.status_code, away.json()["code"]) == (503, "unavailable")
        shown = api.get("/admin/overview")
        assert shown.status_code == 200
        assert shown.json()["relay"] == {"lagRows": None, "lagSeconds": None, "poisonRows": None}
        by_name = {one["name"]: one["status"] for one in shown.json()["services"]}
        assert by_name == {
            "api": "unreachable",
            "notifications": "unreachable",
            "analytics": "unhealthy",
        }
        groups = {one["group"]: (one["state"], one["lag"]) for one in shown.json()["groups"]}
        assert groups["analytics-archive"] == ("down", None)
        assert groups["notifications-service"] == (None, None)


def test_with_a_token_in_the_settings_every_operators_route_wants_it(
    components: LocalComponents,
) -> None:
    with reading(components, SHOPSTREAM_ADMIN_TOKEN=TOKEN) as api:
        paths = [path for path in api.app.openapi()["paths"] if path.startswith("/admin")]
        assert len(paths) >= 3
        for path in paths:
            for sent in ({}, {"authorization": "Bearer x"}, {"authorization": f"Basic {TOKEN}"}):
                method = "POST" if path.endswith("replay") else "GET"
                refused = api.request(method, path, headers=sent)
                assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
                assert refused.headers["www-authenticate"] == "Bearer"
        known = api.get("/admin/verify", headers={"authorization": f"bearer {TOKEN}"})
        assert known.status_code == 404
        assert api.get("/aggregates/event-types").status_code == 200


def test_verify_s_last_report_is_shown_as_it_is_and_404_before_the_first(
    components: LocalComponents, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    with reading(components, SHOPSTREAM_VERIFY_REPORT=str(path)) as api:
        assert api.get("/admin/verify").json()["code"] == "not_found"
        report = {"at": "2026-11-21T00:00:00.000000Z", "holds": True, "invariants": []}
        path.write_text(json.dumps(report))
        assert api.get("/admin/verify").json() == report
        path.write_text('{"half')
        assert api.get("/admin/verify").status_code == 404
    with reading(components) as api:
        assert api.get("/admin/verify").status_code == 404


def test_the_running_service_says_how_far_behind_and_how_fresh_each_group_is(
    components: LocalComponents, tmp_path: Path
) -> None:
    analytics = Analytics.fresh(components, tmp_path)
    body = inventory_body("p", "overview", 1)
    made = event("inventory.updated", body, subject="p", seller="overview")
    send(producer(analytics.environ["KAFKA_BROKERS"]), [made])

    with analytics.service() as service:
        service.wait_healthy()

        def groups() -> dict[str, Any]:
            shown = service.client.get("/admin/overview").json()
            return {one["group"]: one for one in shown["groups"]}

        def caught_up() -> bool:
            found = groups()
            mine = [found[f"analytics-{name}"] for name in ("aggregates", "recent", "archive")]
            return all(one["lag"] == 0 and one["freshSeconds"] is not None for one in mine)

        wait_until(caught_up, "nothing is behind")
        assert groups()["analytics-aggregates"]["state"] == "running"
