"""Health: each check for itself, side by side, and what counts for readiness."""

import asyncio
from datetime import UTC, datetime

import pytest

from shopstream_shared import health
from shopstream_shared.clock import ManualClock
from shopstream_shared.health import Check, Health, Report, Unhealthy

CLOCK = ManualClock(datetime(2026, 11, 21, 5, tzinfo=UTC))


async def well() -> str:
    return "answers"


async def ill() -> str:
    raise Unhealthy("shop.orders: 2 partitions, topics.toml says 3")


async def broken() -> str:
    raise RuntimeError("postgresql://postgres:s3cr3t@localhost/app")


def report(checks: dict[str, Check], *, ready_only: bool = False) -> Report:
    return asyncio.run(Health(checks, CLOCK).report(ready_only=ready_only))


def test_all_well_is_healthy_and_200() -> None:
    result = report({"database": Check(well)})

    assert result.code == 200
    body = result.as_json()
    assert body["status"] == "healthy"
    assert body["timestamp"] == "2026-11-21T05:00:00.000000Z"
    (entry,) = body["checks"].values()  # type: ignore[attr-defined] # a dict by the contract
    assert entry.keys() == {"status", "message", "responseTimeMs"}
    assert (entry["status"], entry["message"]) == ("healthy", "answers")


def test_one_ill_check_makes_the_whole_unhealthy_and_says_why() -> None:
    result = report({"database": Check(well), "topics": Check(ill)})

    assert result.code == 503
    assert result.checks["topics"].message == "shop.orders: 2 partitions, topics.toml says 3"
    assert result.checks["database"].status == "healthy"


def test_a_check_that_readiness_does_not_need_is_not_asked() -> None:
    """A broker that is away must not take the API out of the balancer: writes still succeed."""
    checks = {"database": Check(well), "kafka": Check(ill, for_ready=False)}

    assert report(checks).code == 503
    ready = report(checks, ready_only=True)
    assert ready.code == 200
    assert ready.checks.keys() == {"database"}


def test_the_message_of_an_unexpected_error_is_not_shown() -> None:
    result = report({"database": Check(broken)})

    assert result.checks["database"].message == "RuntimeError"
    assert result.code == 503


def test_a_check_that_never_answers_is_cut_off_while_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_SECONDS", 0.05)

    async def hangs() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    result = report({"a": Check(hangs), "b": Check(hangs), "c": Check(well)})

    assert result.checks["a"].message == "no answer within 0.05 s"
    assert result.checks["c"].status == "healthy"


def test_checks_run_side_by_side() -> None:
    meeting = asyncio.Barrier(2)

    async def meets() -> str:
        await meeting.wait()
        return "met"

    assert report({"a": Check(meets), "b": Check(meets)}).code == 200


def test_no_check_at_all_is_healthy() -> None:
    assert report({}).as_json()["checks"] == {}
