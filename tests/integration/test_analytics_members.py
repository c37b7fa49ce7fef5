"""Several workers of a sink: who takes over from whom, and how soon; zombies; two parents."""

import contextlib
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer
from tests.support.analytics import Analytics, Service, alive, kill, producer, send, wait_until
from tests.support.analytics_events import event, inventory_body
from tests.support.analytics_exact import EXACT, caught_up, lives
from tests.support.components import LocalComponents
from tests.support.warm import Fork

from shopstream_analytics.worker.sinks import WORKERS
from shopstream_shared.events.codec import EncodedEvent

#: What happens sooner than this was not decided by the end of a session.
LONG_SESSION = {"SHOPSTREAM_KAFKA_SESSION_TIMEOUT_SECONDS": "30"}
STANDS_STILL = "standing_still:at_the_crash_point"
#: In the middle of a write: items merged and checkpoint not moved, or a file sealed and not stored.
STANDS_AT = {
    "aggregates": "aggregates.before_checkpoint",
    "recent": "recent.before_checkpoint",
    "archive": "archive.before_put",
}
#: The bounds that the service promises; tests give three times as much.
TAKE_OVER_SECONDS = 20.0
CLEAN_SECONDS = 5.0
#: How much a worker may grow by a backlog that its sink does not take.
AWAY_BYTES_MAX = 20 * 1024 * 1024


@pytest.fixture
def analytics(components: LocalComponents, tmp_path: Path) -> Analytics:
    return Analytics.fresh(components, tmp_path)


@pytest.fixture
def source(analytics: Analytics) -> Producer:
    return producer(analytics.environ["KAFKA_BROKERS"])


def load(source: Producer, shop: Iterator[list[EncodedEvent]], transactions: int) -> None:
    for transaction in islice(shop, transactions):
        send(source, transaction)


def all_run(analytics: Analytics, name: str, times: int) -> None:
    """Until workers of this sink have begun to consume so many times."""
    log = analytics.logs / f"{name}.log"
    wait_until(
        lambda: log.exists() and log.read_text().count('"event": "running"') >= times,
        f"{name} runs for the {times}. time",
    )


def exact(analytics: Analytics, name: str) -> None:
    caught_up(analytics, name)
    EXACT[name](analytics)


def test_who_is_asked_to_end_leaves_at_once_and_who_is_killed_is_followed_at_once(
    analytics: Analytics, source: Producer
) -> None:
    shop = lives(seed=13)
    with analytics.worker("recent", "one", **LONG_SESSION):
        with analytics.worker("recent", "two", **LONG_SESSION) as second:
            all_run(analytics, "recent", 2)
            load(source, shop, 5)
            second.send_signal(signal.SIGTERM)
            started = time.monotonic()
            load(source, shop, 5)
            assert second.wait(timeout=30) == 0
            caught_up(analytics, "recent")
            assert time.monotonic() - started < 3 * CLEAN_SECONDS
        with analytics.worker("recent", "two", **LONG_SESSION) as second:
            all_run(analytics, "recent", 3)
            caught_up(analytics, "recent")
            kill(second)
        load(source, shop, 5)
        started = time.monotonic()
        with analytics.worker("recent", "two", **LONG_SESSION):
            caught_up(analytics, "recent")
            # Below the session: the other one could not have taken over.
            assert time.monotonic() - started < TAKE_OVER_SECONDS
            exact(analytics, "recent")


def test_workers_that_stood_still_past_their_session_change_nothing_and_join_again(
    analytics: Analytics, source: Producer
) -> None:
    """Each in the middle of a write, which it ends when another has long done the same.

    The archive's has sealed a file whose place in the chain is taken by then, by the same records
    or by more (protocol rule 23).
    """
    shop = lives(seed=14)
    with contextlib.ExitStack() as stack:
        load(source, shop, 20)
        zombies = {
            name: stack.enter_context(
                analytics.worker(name, "one", patches=[STANDS_STILL], SHOPSTREAM_CRASH_AT=point)
            )
            for name, point in STANDS_AT.items()
        }
        for zombie in zombies.values():
            wait_until(lambda zombie=zombie: stands(zombie), "it stands still")  # type: ignore[misc]  # bound by default
        # More than they had read when they were stopped, so that the batches have other borders.
        load(source, shop, 10)
        heirs = [stack.enter_context(analytics.worker(name, "two")) for name in EXACT]
        for name in EXACT:
            caught_up(analytics, name)
        for zombie in zombies.values():
            zombie.send_signal(signal.SIGCONT)
        load(source, shop, 10)
        for name in EXACT:
            all_run(analytics, name, 2)
            exact(analytics, name)
        # Members again, they take everything when the others leave.
        for heir in heirs:
            heir.send_signal(signal.SIGTERM)
        load(source, shop, 5)
        for name, zombie in zombies.items():
            exact(analytics, name)
            assert zombie.poll() is None


def stands(worker: Fork) -> bool:
    return psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED


def lags(service: Service) -> int:
    """Partitions that the service's workers own, by its metrics."""
    text = service.client.get("/metrics").text
    return text.count("\nshopstream_analytics_lag_offsets{")


def test_two_services_share_the_partitions_and_a_new_one_follows_a_killed_one(
    analytics: Analytics, source: Producer
) -> None:
    shop = lives(seed=15)
    partitions = 9 * len(WORKERS)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(analytics.service())
        with analytics.service() as second:
            first.wait_healthy()
            second.wait_healthy()
            load(source, shop, 10)
            wait_until(lambda: 0 < lags(second) < partitions, "the second one has some")
            wait_until(lambda: lags(first) + lags(second) == partitions, "each has one owner")
            orphans = second.worker_pids()
            port = str(second.client.base_url.port)
            second.process.kill()
            second.process.wait()
        load(source, shop, 10)
        # On the same port, so of the same name, while the killed one's workers still end.
        with analytics.service(HEALTH_PORT=port) as third:
            third.wait_healthy()
            load(source, shop, 10)
            for name in WORKERS:
                exact(analytics, name)
            wait_until(lambda: lags(first) + lags(third) == partitions, "each has one owner")
            assert not any(map(alive, orphans))


def resident(worker: Fork) -> int:
    """Bytes that are this process's alone: what it shares with its forker is no growth."""
    return int(psutil.Process(worker.pid).memory_full_info().uss)


def test_with_its_sink_away_a_worker_stays_within_20_mb_of_idle(
    analytics: Analytics, source: Producer
) -> None:
    shop = lives(seed=16)
    with analytics.worker("aggregates") as worker:
        load(source, shop, 1)
        caught_up(analytics, "aggregates")
        idle = resident(worker)
        analytics.components.kill("dynamodb")
        try:
            # Twice as many bytes as it may grow, had it taken them all in.
            one = event("inventory.updated", inventory_body("p", "s", 1), subject="p", seller="s")
            for _ in range(20):
                send(source, [one] * 2_000)
            log = analytics.logs / "aggregates.log"
            wait_until(lambda: "sink away" in log.read_text(), "it is away")
            seen = [resident(worker) - idle for _ in _moments(6.0)]
        finally:
            analytics.components.start("dynamodb")
        assert max(seen) < AWAY_BYTES_MAX


def _moments(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.2)
