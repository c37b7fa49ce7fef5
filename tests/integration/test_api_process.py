"""The API as a process: its start, its end, and its life without database or broker."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from tests.support.api import COMMAND, ApiProcess
from tests.support.components import LocalComponents
from tests.support.system import wait_until
from tests.support.warm import forks

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def api(components: LocalComponents) -> Iterator[ApiProcess]:
    process = ApiProcess.beside(components, KAFKA_BROKERS=NOWHERE)
    with process:
        yield process


def _checks(api: ApiProcess) -> dict[str, str]:
    checks = api.client.get("/health").json()["checks"]
    return {name: check["status"] for name, check in checks.items()}


def test_it_serves_without_a_broker_and_says_what_is_missing(api: ApiProcess) -> None:
    product = api.product()
    assert api.client.get(f"/products/{product['id']}").json() == product
    health = api.client.get("/health")
    assert health.status_code == 503
    assert health.json()["status"] == "unhealthy"
    assert set(health.json()) == {"status", "checks", "timestamp"}
    checks = _checks(api)
    assert checks["database"] == "healthy"
    assert {checks["kafka"], checks["topics"], checks["relay"]} == {"unhealthy"}
    assert api.answers("/health/ready")
    assert api.answers("/health/live")


def test_sigterm_ends_it_in_time_with_exit_0_even_without_a_broker(api: ApiProcess) -> None:
    api.product()
    assert api.terminate() == 0


def test_with_the_database_away_it_answers_503_lives_and_recovers(
    components: LocalComponents,
) -> None:
    with ApiProcess.beside(components, KAFKA_BROKERS=NOWHERE) as api:
        product = api.product()
        components.stop("postgres")
        try:
            for answer in (
                api.client.get(f"/products/{product['id']}"),
                api.client.post("/products", json={"name": "x", "price": 1, "sellerId": "s"}),
                api.client.post(f"/orders/{product['id']}/cancel"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                assert answer.headers["retry-after"]
            assert api.answers("/health", 503)
            assert api.answers("/health/ready", 503)
            assert api.answers("/health/live")
        finally:
            components.start("postgres")
        wait_until(lambda: api.answers("/health/ready"), "ready again")
        assert api.client.get(f"/products/{product['id']}").json() == product
        assert api.terminate() == 0


def test_it_may_start_before_its_database(components: LocalComponents) -> None:
    process = ApiProcess.beside(components, KAFKA_BROKERS=NOWHERE)
    components.stop("postgres")
    try:
        process.start(path="/health/live")
        answer = process.client.get("/products")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        components.start("postgres")
        wait_until(lambda: process.answers("/health/ready"), "ready")
        process.product()
    finally:
        process.__exit__(None, None, None)


def test_requests_beyond_the_pool_wait_and_then_are_told_to_come_again(
    components: LocalComponents,
) -> None:
    with ApiProcess.beside(
        components,
        KAFKA_BROKERS=NOWHERE,
        SHOPSTREAM_POOL_SIZE="1",
        SHOPSTREAM_POOL_TIMEOUT_SECONDS="0.3",
    ) as api:
        product = api.product()
        with psycopg.connect(api.database_url) as holder:
            holder.execute("SELECT 1 FROM products WHERE id = %s FOR UPDATE", (product["id"],))
            with httpx.Client(base_url=api.client.base_url, timeout=30) as other:
                blocked: list[httpx.Response] = []
                thread = threading.Thread(
                    target=lambda: blocked.append(
                        other.patch(f"/products/{product['id']}", json={"name": "y"})
                    )
                )
                thread.start()
                wait_until(
                    lambda: (
                        api.query(
                            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                            " AND application_name = 'shopstream-api'"
                            " AND datname = current_database()"
                        )
                        == [(1,)]
                    ),
                    "the one connection waits for the lock",
                )
                answer = api.client.get("/products")
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                holder.rollback()
                thread.join(30)
        assert blocked[0].status_code == 200


def test_a_terminated_backend_costs_one_request_at_most_and_never_a_500(api: ApiProcess) -> None:
    api.product()
    statuses = []
    for _ in range(5):
        api.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'shopstream-api' AND datname = current_database()"
        )
        body = {"name": "x", "price": 1, "sellerId": "s"}
        statuses += [api.client.post("/products", json=body).status_code for _ in range(2)]
    assert set(statuses) <= {201, 503}
    assert statuses[1::2] == [201] * 5


def test_a_put_must_name_its_version_where_that_is_asked_for(components: LocalComponents) -> None:
    with ApiProcess.beside(
        components, KAFKA_BROKERS=NOWHERE, SHOPSTREAM_REQUIRE_IF_MATCH="true"
    ) as api:
        url = f"/products/{api.product()['id']}"
        body = {"name": "x", "price": 1}
        answer = api.client.put(url, json=body)
        assert (answer.status_code, answer.json()["code"]) == (428, "version_required")
        assert api.client.put(url, json=body, headers={"If-Match": '"v1.0"'}).status_code == 200
        assert api.client.patch(url, json={"name": "y"}).status_code == 200


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "not an address"),
        ("KAFKA_BROKERS", "nonsense"),
        ("PORT", "http"),
        ("LOW_STOCK_THRESHOLD", "-1"),
        ("SHOPSTREAM_RELAY", "maybe"),
        ("AUTH_MODE", "required"),
        ("SHOPSTREAM_HOST", "0.0.0.0"),
    ],
)
def test_a_wrong_variable_is_one_clear_line_and_exit_2(
    tmp_path: Path, variable: str, value: str
) -> None:
    environ = {"DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/app", variable: value}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = forks("shopstream_api.main").start([COMMAND], environ, output.fileno())
        assert process.wait(60) == 2
    (line,) = log.read_text().splitlines()
    assert line.startswith("error: ")
    assert "hidden" not in line
    if variable != "SHOPSTREAM_HOST":
        assert variable in line


def test_a_missing_database_address_is_one_clear_line_and_exit_2() -> None:
    result = subprocess.run(
        [COMMAND], env={}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (2, "error: DATABASE_URL: is required\n")


def test_a_busy_port_is_one_clear_line_and_exit_2(api: ApiProcess) -> None:
    result = subprocess.run(
        [COMMAND], env=api.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert f"cannot listen on 127.0.0.1:{api.port}" in result.stderr
