"""Where an external component is said to be: never with its credentials."""

from __future__ import annotations

import httpx
import pytest

from shopstream_stack import health, status
from shopstream_stack.process import NotHealthyError
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The brokers that a check went to; every check succeeds."""
    brokers: list[str] = []
    monkeypatch.setattr(health, "kafka_serves", brokers.append)
    monkeypatch.setattr(health, "postgres_serves", lambda url: None)
    monkeypatch.setattr(health, "http_answers", lambda url, any_status=False: None)
    return brokers


def external(**environ: str) -> dict[str, status.Row]:
    system = System(StackSettings.load({"HOME": "/home/someone", **environ}))
    return {name: status._external(system, name) for name in ("kafka", "postgres")}


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://u:hush@db.example/app", "db.example:5432/app"),
        ("postgresql://db.example:6432/app?user=u&password=hush", "db.example:6432/app"),
        ("host=db.example dbname=app password=hush", "db.example:5432/app"),
        ("u:hush@db.example", "DATABASE_URL"),
    ],
)
def test_the_place_of_a_database_shows_no_password(asked: list[str], url: str, where: str) -> None:
    row = external(DATABASE_URL=url)["postgres"]
    assert row.where == where
    assert "hush" not in str(row)


def test_an_address_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(NotHealthyError) as caught:
        health.postgres_serves("u:hush@db.example")
    assert "hush" not in str(caught.value)


def test_an_external_broker_is_asked_where_it_is(asked: list[str]) -> None:
    row = external(KAFKA_BROKERS="one.example:9092,two.example:9092")["kafka"]
    assert asked == ["one.example:9092,two.example:9092"]
    assert row.state == "healthy"


def test_a_sick_service_is_told_by_the_checks_that_fail() -> None:
    well = {"status": "healthy", "message": "answers", "responseTimeMs": 1}
    sick = {"status": "unhealthy", "message": "no broker answers", "responseTimeMs": 1}
    page = {"status": "unhealthy", "checks": {"database": well, "kafka": sick}}
    assert health._reason(httpx.Response(503, json=page)) == "kafka: no broker answers"
    assert health._reason(httpx.Response(502, text="bad gateway")) == "bad gateway"
    assert health._reason(httpx.Response(503, json=["odd"])) == '["odd"]'
