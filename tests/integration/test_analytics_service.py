"""The service as an operator and an analyst see it: parent, workers, health, read API."""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.analytics import (
    Analytics,
    Service,
    alive,
    producer,
    read_log,
    send,
    wait_until,
)
from tests.support.analytics_events import (
    UNSHOWN,
    Shop,
    event,
    inventory_body,
    naive_counts,
    with_product_days,
)
from tests.support.components import LocalComponents

from shopstream_analytics.worker.sinks import WORKERS
from shopstream_shared.events.codec import EventRejected, decode


@pytest.fixture
def analytics(components: LocalComponents, tmp_path: Path) -> Analytics:
    return Analytics.fresh(components, tmp_path)


@pytest.fixture
def service(analytics: Analytics) -> Iterator[Service]:
    with analytics.service() as running:
        running.wait_healthy()
        yield running


def send_one(analytics: Analytics, seller: str) -> None:
    made = event(
        "inventory.updated",
        inventory_body("p", seller, 1),
        subject="p",
        seller=seller,
        at=datetime.now(UTC),
    )
    send(producer(analytics.environ["KAFKA_BROKERS"]), [made])


def total(service: Service, path: str) -> dict[str, Any]:
    totals: dict[str, Any] = service.client.get(path).json()["totals"]
    return totals


def counted(service: Service, seller: str) -> bool:
    response = service.client.get(f"/aggregates/sellers/{seller}")
    return response.status_code == 200 and response.json()["totals"]["events"] == 1


def caught_up(analytics: Analytics, name: str) -> bool:
    return analytics.lag(f"analytics-{name}") == 0


def status(service: Service) -> int | None:
    response = service.health()
    return None if response is None else response.status_code


def test_without_a_broker_it_is_up_and_says_so_within_15_seconds(analytics: Analytics) -> None:
    with analytics.service(KAFKA_BROKERS="127.0.0.1:1") as service:
        wait_until(lambda: status(service) == 503, "503", seconds=15)
        wait_until(lambda: "broker" in service.message("kafka"), "the reason", seconds=15)
        assert service.client.get("/health/live").status_code == 200
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=30) == 0


def test_workers_are_restarted_alone_and_end_with_their_parent(
    analytics: Analytics, service: Service
) -> None:
    pids = service.worker_pids()
    assert len(pids) == len(WORKERS)
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: len(set(service.worker_pids()) - set(pids)) == 1, "a new worker")
    assert set(pids[1:]) < set(service.worker_pids())
    service.wait_healthy()
    send_one(analytics, f"restarted-{pids[0]}")
    wait_until(lambda: counted(service, f"restarted-{pids[0]}"), "counted after the restart")

    orphans = service.worker_pids()
    service.process.kill()
    service.process.wait()
    wait_until(lambda: not any(map(alive, orphans)), "workers end with their parent", seconds=15)


def test_sigterm_ends_it_and_its_workers_with_exit_0_within_10_seconds(service: Service) -> None:
    pids = service.worker_pids()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(timeout=30) == 0
    assert not any(map(alive, pids))


def test_the_answers_are_what_the_events_add_up_to(analytics: Analytics, service: Service) -> None:
    shop = Shop(seed=21, start=datetime.now(UTC) - timedelta(hours=120))
    made = producer(analytics.environ["KAFKA_BROKERS"])
    for _ in range(20):
        send(made, shop.order_life())
    naive = with_product_days(naive_counts(_events(analytics)))
    wanted = sum(c["events"] for k, c in naive.items() if k[0] == "all" and k[2] == "day")
    wait_until(lambda: total(service, "/aggregates/event-types")["events"] == wanted, "all counted")

    for dimension, path in (("seller", "sellers"), ("product", "products")):
        for name in {key[1] for key in naive if key[0] == dimension}:
            for granularity in ("hour", "day"):
                url = f"/aggregates/{path}/{name}?granularity={granularity}"
                answer = service.client.get(url).json()
                assert answer["granularity"] == granularity
                buckets = {bucket.pop("start"): bucket for bucket in answer["buckets"]}
                assert list(buckets) == sorted(buckets)
                for start, bucket in buckets.items():
                    assert _flat(bucket) == {
                        counter: amount
                        for counter, amount in naive[dimension, name, granularity, start].items()
                        if (amount or "#" in counter) and not counter.startswith(UNSHOWN)
                    }
                found = [key for key in naive if key[:3] == (dimension, name, granularity)]
                assert len(found) == len(buckets)

    first = min(key[3] for key in naive if key[0] == "all" and key[2] == "hour")
    window = f"/aggregates/event-types?from={first}&to={first}"
    assert service.client.get(window).json()["buckets"] == []
    nobody = service.client.get("/aggregates/sellers/nobody").json()
    assert (nobody["buckets"], nobody["totals"]["events"]) == ([], 0)


def test_recent_events_page_newest_first_without_skips_or_repeats(
    analytics: Analytics, service: Service
) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    seller = f"pager-{os.getpid()}"
    # Many events of one instant: the indexes do not order those.
    made = [
        event(
            "inventory.updated", inventory_body("p", seller, 1), subject="p", seller=seller, at=at
        )
        for _ in range(23)
    ]
    send(producer(analytics.environ["KAFKA_BROKERS"]), made)
    ids = sorted((one.id for one in made), reverse=True)
    path = f"/events/recent?sellerId={seller}"
    wait_until(
        lambda: len(service.client.get(path).json()["data"]) == len(made), "all events are there"
    )
    seen: list[str] = []
    page = service.client.get(f"{path}&limit=5").json()
    assert page["prevCursor"] is None
    while True:
        seen += [item["eventId"] for item in page["data"]]
        if not page["hasMore"]:
            break
        last = page
        page = service.client.get(f"{path}&limit=5&cursor={page['nextCursor']}").json()
    assert seen == ids
    back = service.client.get(f"{path}&limit=5&cursor={page['prevCursor']}").json()
    assert [item["eventId"] for item in back["data"]] == [item["eventId"] for item in last["data"]]
    item = page["data"][0]
    assert set(item) == {"eventId", "eventType", "timestamp", "sellerId", "subject", "data"}
    assert item["data"]["data"]["sellerId"] == seller
    both = service.client.get(f"{path}&type=order.paid").json()
    assert both == {"data": [], "hasMore": False, "nextCursor": None, "prevCursor": None}

    forged = service.client.get(f"{path}&cursor=x")
    assert (forged.status_code, forged.json()["code"]) == (400, "invalid_cursor")
    assert forged.headers["content-type"] == "application/problem+json"
    for query in ("limit=0", "limit=501", "type=order.dreamt", "sellerId="):
        refused = service.client.get(f"/events/recent?{query}")
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize(
    ("component", "silent", "others"),
    [("minio", "archive", ("aggregates", "recent")), ("dynamodb", "aggregates", ("archive",))],
)
def test_a_store_away_stops_its_own_sink_only_and_all_is_stored_after(
    component: str, silent: str, others: tuple[str, ...], analytics: Analytics, service: Service
) -> None:
    analytics.components.kill(component)
    send_one(analytics, f"away-{component}")
    wait_until(lambda: status(service) == 503, "503", seconds=60)
    wait_until(lambda: "behind" not in service.message(silent), "the reason", seconds=60)
    assert service.client.get("/health/live").status_code == 200
    for name in others:
        wait_until(partial(caught_up, analytics, name), f"{name} goes on")
    analytics.components.start(component)
    service.wait_healthy()
    for name in WORKERS:
        wait_until(partial(caught_up, analytics, name), f"{name} caught up")
    assert counted(service, f"away-{component}")


def test_a_broker_that_goes_and_comes_is_survived(analytics: Analytics, service: Service) -> None:
    analytics.components.stop("kafka")
    wait_until(lambda: status(service) == 503, "503", seconds=60)
    analytics.components.start("kafka")
    send_one(analytics, f"back-{os.getpid()}")
    wait_until(lambda: counted(service, f"back-{os.getpid()}"), "counted after the broker is back")
    service.wait_healthy()


def _events(analytics: Analytics) -> Iterator[bytes]:
    for record in read_log(analytics.environ["KAFKA_BROKERS"]):
        try:
            yield decode(record.value).value
        except EventRejected:
            continue


def _flat(bucket: dict[str, Any]) -> dict[str, int]:
    flat = {name: amount for name, amount in bucket.items() if isinstance(amount, int) and amount}
    for group in ("byType", "revenueMinor"):
        flat.update({f"{group}#{name}": amount for name, amount in bucket[group].items()})
    return flat
