"""The parent: how long it waits for a word of a worker, and what it does without one."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest
from msgspec import structs

from shopstream_analytics.admin.overview import Freshness, Overview
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.supervisor import (
    SILENT_SECONDS_MAX,
    START_SECONDS_MAX,
    Supervisor,
    WorkerProcess,
)
from shopstream_analytics.worker.report import Lag, Report
from shopstream_shared.children import Child
from shopstream_shared.kafka import KafkaConnection

REPORT = Report(state="running", reason=None, trouble=None, lags=[], counters={})


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> AnalyticsSettings:
    given = {
        "AWS_ACCESS_KEY_ID": "fake",
        "AWS_SECRET_ACCESS_KEY": "fake",
        "MINIO_ACCESS_KEY": "minio",
        "MINIO_SECRET_KEY": "minio123",
        **variables,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return AnalyticsSettings.read_or_exit()


def test_a_worker_may_take_longer_for_its_first_word_than_between_two() -> None:
    worker = WorkerProcess("archive", ())
    assert worker.patience == START_SECONDS_MAX
    worker.report = REPORT
    assert worker.patience == SILENT_SECONDS_MAX < START_SECONDS_MAX


def test_health_says_how_many_events_a_worker_has_left_out() -> None:
    worker = WorkerProcess("recent", ())
    worker._reported_at = time.monotonic()
    for counters, said in (
        ({}, "0 partitions, 0 behind"),
        ({"items_refused": 2}, "0 partitions, 0 behind; 2 events left out for good"),
    ):
        worker.report = structs.replace(REPORT, counters=counters)
        with mock.patch.object(WorkerProcess, "pid", 1):
            assert asyncio.run(worker.probe()) == said


def lags(*ends: int | None) -> list[Lag]:
    return [Lag("shop.products", number, 10, end) for number, end in enumerate(ends)]


def test_a_worker_is_fresh_only_when_the_ends_of_all_its_partitions_are_known() -> None:
    worker = WorkerProcess("recent", ())
    fresh = Freshness([worker])
    # After a start, in a rebalance, behind.
    for seen in (lags(), lags(None), lags(10, None), lags(10, 11)):
        worker.report = structs.replace(REPORT, lags=seen)
        fresh.look()
        assert fresh.seconds("recent") is None, seen
    worker.report = structs.replace(REPORT, lags=lags(10, 10))
    fresh.look()
    assert fresh.seconds("recent") == 0.0


def test_a_group_is_as_far_behind_as_its_workers_know_and_else_unknown() -> None:
    one, two = WorkerProcess("recent", ()), WorkerProcess("recent-2", ())
    fresh = Freshness([one, two])
    overview = Overview({}, Supervisor([one, two]), fresh, KafkaConnection("127.0.0.1:1", "test"))

    def group(*reports: Report | None) -> tuple[Any, Any]:
        one.report, two.report = reports
        fresh.look()
        shown = overview._group("recent")
        return shown["lag"], shown["freshSeconds"]

    def running(*ends: int | None) -> Report:
        return structs.replace(REPORT, lags=lags(*ends))

    assert group(running(), running()) == (None, None)
    assert group(running(12), running(None)) == (None, None)
    assert group(running(10), None) == (None, None)
    # More workers than partitions: the idle one holds nothing back.
    assert group(running(10), running()) == (0, 0.0)
    assert group(running(10, 13), running()) == (3, 0.0)


def test_a_worker_that_cannot_be_started_ends_neither_the_others_nor_the_trying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[str] = []

    async def refused(argv: Sequence[str], _environ: object = None) -> Child:
        starts.append(argv[0])
        if starts.count("recent") == 2:
            supervisor.stop()
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(Child, "start", refused)
    supervisor = Supervisor([WorkerProcess(name, (name,)) for name in ("archive", "recent")])
    asyncio.run(supervisor.run())
    assert set(starts) == {"archive", "recent"}
    assert starts.count("recent") == 2


def members(found: Supervisor) -> list[Any]:
    return [worker.command[-1] for worker in found.workers]


def test_each_process_of_a_sink_has_a_name_of_its_own_also_beside_another_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = Supervisor.of(settings(monkeypatch, SHOPSTREAM_ANALYTICS_WORKERS="2"))
    names = [worker.name for worker in two.workers]
    assert names[:2] == ["aggregates", "aggregates-2"]
    assert len(set(members(two))) == len(set(names)) == 6
    # The same parent started again has the same names; one on another port has others.
    assert members(Supervisor.of(settings(monkeypatch))) == members(two)
    other = Supervisor.of(settings(monkeypatch, HEALTH_PORT="8081"))
    assert not set(members(other)) & set(members(two))
    named = Supervisor.of(settings(monkeypatch, SHOPSTREAM_ANALYTICS_INSTANCE="east-1"))
    assert members(named)[0] == "east-1-aggregates-1"


def test_a_machine_s_name_that_kafka_does_not_take_is_put_into_its_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "büro rechner" + "x" * 200)
    assert settings(monkeypatch).instance_name == "b-ro-rechner" + "x" * 88 + "-8080"
