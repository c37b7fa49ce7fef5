"""Nothing waits without end: a lock, a stalled server, and what is left of it afterwards."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from tests.support.api import ApiProcess
from tests.support.components import LocalComponents
from tests.support.system import wait_until

NOWHERE = "127.0.0.1:1"
DEADLINE_SECONDS = 1.0
#: The bound is the deadline; a busy machine gets three times that.
ANSWER_SECONDS_MAX = 3 * DEADLINE_SECONDS
POOL_SIZE = 2


@pytest.fixture
def api(components: LocalComponents) -> Iterator[ApiProcess]:
    with ApiProcess.beside(
        components,
        KAFKA_BROKERS=NOWHERE,
        SHOPSTREAM_RELAY="off",
        SHOPSTREAM_POOL_SIZE=str(POOL_SIZE),
        SHOPSTREAM_REQUEST_DEADLINE_SECONDS=str(DEADLINE_SECONDS),
    ) as process:
        yield process


def _refused(answer: httpx.Response, *codes: str) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["code"] in codes
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["requestId"] == answer.headers["x-request-id"]


def _waiting(api: ApiProcess) -> int:
    rows = api.query(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND application_name LIKE 'shopstream-api%%' AND datname = current_database()"
    )
    return int(rows[0][0])


@contextmanager
def _stalled(api: ApiProcess, components: LocalComponents) -> Iterator[None]:
    """The server stands still with all its connections: it answers nothing and closes nothing."""
    pids = [
        pid
        for (pid,) in api.query("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    ]
    components.pause("postgres")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        components.resume("postgres")


def test_a_request_behind_a_lock_is_answered_by_its_deadline_and_its_statement_cancelled(
    api: ApiProcess,
) -> None:
    product = api.product()
    path = f"/products/{product['id']}"
    with psycopg.connect(api.database_url) as holder:
        holder.execute("SELECT 1 FROM products WHERE id = %s FOR UPDATE", (product["id"],))
        # As many as the pool has connections, and then one more: none is lost.
        for _ in range(POOL_SIZE + 1):
            began = time.monotonic()
            answer = api.client.patch(path, json={"name": "y"})
            assert time.monotonic() - began < ANSWER_SECONDS_MAX
            _refused(answer, "deadline_exceeded")
        wait_until(lambda: _waiting(api) == 0, "no statement waits any more")
    assert api.client.get(path).json() == product
    assert api.client.patch(path, json={"name": "y"}).json()["version"] == 2


def test_a_stalled_database_costs_a_503_in_time_and_the_api_recovers(
    api: ApiProcess, components: LocalComponents
) -> None:
    product = api.product()
    requests = (
        ("GET", f"/products/{product['id']}", None),
        ("POST", "/products", {"name": "x", "price": 1, "sellerId": "s"}),
        ("GET", "/products", None),
        ("PATCH", f"/products/{product['id']}", {"name": "y"}),
        ("POST", "/orders", {"items": [{"productId": product["id"], "quantity": 1}]}),
    )
    with _stalled(api, components):
        for method, path, body in requests:
            began = time.monotonic()
            answer = api.client.request(method, path, json=body)
            assert time.monotonic() - began < ANSWER_SECONDS_MAX, (method, path)
            _refused(answer, "deadline_exceeded", "unavailable")
        assert api.answers("/health/live")
    wait_until(lambda: api.answers("/health/ready"), "ready again")
    wait_until(lambda: api.answers(f"/products/{product['id']}"), "reads again")
    assert api.client.patch(f"/products/{product['id']}", json={"name": "z"}).status_code == 200


def test_a_repeat_with_the_same_key_after_a_deadline_has_one_effect(api: ApiProcess) -> None:
    product = api.product(stock=5)
    path, headers = f"/products/{product['id']}/stock-adjustments", {"Idempotency-Key": "k"}
    body = {"delta": -2, "reason": "damaged"}
    with psycopg.connect(api.database_url) as holder:
        holder.execute("SELECT 1 FROM products WHERE id = %s FOR UPDATE", (product["id"],))
        _refused(api.client.post(path, json=body, headers=headers), "deadline_exceeded")
    answers = []

    def done() -> bool:
        answers.append(api.client.post(path, json=body, headers=headers))
        return answers[-1].status_code == 201

    wait_until(done, "the repeat is done")
    assert answers[-1].json()["stock"] == 3
    assert api.client.get(f"/products/{product['id']}").json()["stock"] == 3
