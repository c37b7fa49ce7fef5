"""What every service promises, whichever it is: health, metrics, quiet ends, clear refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.support.system import SERVICES, LocalSystem, wait_until

STOP_SECONDS_MAX = 10.0


@pytest.mark.parametrize("name", SERVICES)
def test_a_healthy_service_says_so_check_by_check(system: LocalSystem, name: str) -> None:
    answer = system.health(name)
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "healthy"
    assert body["timestamp"]
    assert body["checks"]
    for check in body["checks"].values():
        assert check["status"] == "healthy"
        assert {"message", "responseTimeMs"} <= check.keys()
    assert system.health(name, "/health/live").status_code == 200
    assert system.health(name, "/health/ready").status_code == 200


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_shows_metrics_in_prometheus_format(system: LocalSystem, name: str) -> None:
    answer = httpx.get(f"{system.system.service_urls()[name]}/metrics", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE " in answer.text


@pytest.mark.parametrize("name", SERVICES)
def test_sigterm_ends_a_service_in_time_with_exit_0(system: LocalSystem, name: str) -> None:
    assert system.terminate(name, seconds_max=STOP_SECONDS_MAX) == 0


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_without_its_brokers_variable_refuses_in_one_line(
    system: LocalSystem, name: str
) -> None:
    environ = {**system.system.spec(name).environ, "KAFKA_BROKERS": "no-port"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name(f"shopstream-{name}"))],
        env=environ,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "KAFKA_BROKERS" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["notifications", "analytics"])
def test_a_consumer_says_within_15_seconds_that_its_broker_is_away_and_recovers(
    system: LocalSystem, name: str
) -> None:
    pid = system.pid(name)
    system.stop("kafka")
    wait_until(lambda: system.health(name).status_code == 503, f"{name} to say so", seconds_max=15)
    system.start("kafka")
    system.wait_health(name)
    assert system.pid(name) == pid
