"""The relay while its broker is paused, killed or restarted under it (protocol rule 8)."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

import httpx
import pytest
from tests.support.api import ApiProcess, published
from tests.support.components import LocalComponents
from tests.support.system import wait_until

from shopstream_shared.kafka import TRANSACTION_TIMEOUT_MS


def _pause(components: LocalComponents, seconds: float) -> None:
    components.pause("kafka")
    try:
        # The length of the pause is the fault itself, not a wait for something to happen.
        time.sleep(seconds)
    finally:
        components.resume("kafka")


def _short_pause(components: LocalComponents, _api: ApiProcess) -> None:
    _pause(components, 2.0)


def _pause_past_the_transaction_timeout(components: LocalComponents, _api: ApiProcess) -> None:
    _pause(components, TRANSACTION_TIMEOUT_MS / 1_000 + 2)


def _kill_and_start(components: LocalComponents, _api: ApiProcess) -> None:
    components.kill("kafka")
    components.start("kafka")


def _pause_and_kill_the_api(components: LocalComponents, api: ApiProcess) -> None:
    components.pause("kafka")
    try:
        api.signal(signal.SIGKILL)
        api.died()
    finally:
        components.resume("kafka")
    api.start()


@pytest.mark.parametrize(
    "fault",
    [_short_pause, _pause_past_the_transaction_timeout, _kill_and_start, _pause_and_kill_the_api],
)
def test_a_broker_that_fails_in_the_middle_loses_and_doubles_nothing(
    components: LocalComponents, fault: Callable[[LocalComponents, ApiProcess], None]
) -> None:
    components.up("kafka", "postgres")
    with ApiProcess.beside(components, SHOPSTREAM_RELAY_BATCH_ROWS="5") as api:
        wait_until(lambda: api.answers("/health"), "all is healthy")
        stop = threading.Event()
        made: list[str] = []

        def write() -> None:
            while not stop.wait(0.01):
                try:
                    answer = api.client.post(
                        "/products", json={"name": "x", "price": 1, "sellerId": "s"}
                    )
                except httpx.TransportError:
                    continue
                # Just after a start 503 is an honest answer; any other but 201 is not.
                if answer.status_code != 503:
                    made.append(answer.json()["id"])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            wait_until(lambda: len(made) > 5, "some are written")
            fault(components, api)
            before = len(made)
            wait_until(lambda: len(made) > before + 5, "some more are written")
        finally:
            stop.set()
            writer.join(60)
        wait_until(
            lambda: api.query("SELECT count(*) FROM outbox") == [(0,)],
            "the outbox is empty",
            seconds_max=60,
        )
        rows = api.query("SELECT id::text FROM products")
        found = published(components.kafka_brokers, *(row[0] for row in rows))
        assert Counter(record.key for record in found) == Counter(row[0] for row in rows)
        # Every acknowledged write is in the database.
        assert set(made) <= {row[0] for row in rows}
