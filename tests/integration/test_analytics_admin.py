"""What operators see: dead letters in pages, verify's report, the overview, and who may."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from tests.support.analytics import Analytics, ensure_topics, producer, send, wait_until
from tests.support.analytics_events import LogRecord, event, inventory_body
from tests.support.analytics_reads import Reading, reading
from tests.support.components import LocalComponents

from shopstream_analytics.aggregates.sink import Letter
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dead_letters import PartitionLetters
from shopstream_analytics.progress import Progress
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import DEAD_LETTER

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
    kafka = KafkaConnection(api.settings.kafka_brokers, "tests")
    letters = PartitionLetters(kafka, SOURCE, Progress())
    for offset in offsets:
        asyncio.run(letters.send([letter(offset)], since=offset))


def offsets_of(page: dict[str, Any]) -> list[int]:
    return [row["offset"] for row in page["data"]]


def test_letters_come_newest_first_in_pages_that_stay_exact_while_others_come(
    api: Reading,
) -> None:
    set_aside(api, *range(1_000, 1_007))
    first = api.get("/admin/dead-letters?limit=3").json()
    assert offsets_of(first) == [1_006, 1_005, 1_004]
    row = first["data"][0]
    assert row.pop("at").endswith("Z")
    assert row == {
        "topic": "shop.orders",
        "partition": 1,
        "offset": 1_006,
        "key": "k",
        "reason": "malformed",
        "detail": "letter 1006",
    }
    set_aside(api, 1_007)
    second = api.get(f"/admin/dead-letters?limit=3&cursor={first['nextCursor']}").json()
    assert offsets_of(second) == [1_003, 1_002, 1_001]
    assert offsets_of(api.get("/admin/dead-letters?limit=1").json()) == [1_007]
    third = api.get(f"/admin/dead-letters?limit=200&cursor={second['nextCursor']}").json()
    assert offsets_of(third)[0] == 1_000
    assert (third["hasMore"], third["nextCursor"]) == (False, None)


def test_what_is_no_letter_on_the_letters_topic_is_passed_over(api: Reading) -> None:
    set_aside(api, 2_000)
    foreign = Producer(KafkaConnection(api.settings.kafka_brokers, "x").idempotent_producer())
    foreign.produce(DEAD_LETTER, value=b"?")
    half = {"dlq_topic": b"shop.orders", "dlq_partition": b"x"}
    foreign.produce(DEAD_LETTER, value=b"?", headers={**half})
    foreign.flush()
    assert offsets_of(api.get("/admin/dead-letters?limit=1").json()) == [2_000]


def test_wrong_parameters_of_the_letters_are_problems(api: Reading) -> None:
    for cursor in ("x", "é", "A" * 3_000, "W10"):
        refused = api.get("/admin/dead-letters", params={"cursor": cursor})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")
    for limit in ("0", "201", "x"):
        refused = api.get(f"/admin/dead-letters?limit={limit}")
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")


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
                refused = api.get(path, headers=sent)
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
