"""The load gate's parts: the profile, what k6 said, the histogram of statements, the verdicts."""

import asyncio
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from shopstream_shared.clock import SystemClock
from shopstream_stack.bench.result import Row
from shopstream_stack.cli import app
from shopstream_stack.context import EXIT_USAGE
from shopstream_stack.errors import StackError
from shopstream_stack.journal import Journal
from shopstream_stack.kit.generator import Latency, StreamReport
from shopstream_stack.ports import PortReservations
from shopstream_stack.settings import StackSettings
from shopstream_stack.verify.journals import lines_of, promised
from shopstream_stack.whole.command import load_gate, soak
from shopstream_stack.whole.gate import GATE_FULL, GATE_QUICK, GateFound, GatePlan, gate_plan, rows
from shopstream_stack.whole.k6 import ACKNOWLEDGED, SCRIPT, Summary, Users, into_journal, run_k6
from shopstream_stack.whole.place import whole_settings
from shopstream_stack.whole.soak import SOAK_QUICK
from shopstream_stack.whole.statements import Statements

USERS = Users(count=200, seconds=960.0, pause_seconds=1.0, sellers="u-", judged=True)
PLAN = GATE_FULL
SUMMARY = Summary(
    requests=100_000,
    a_second=110.0,
    p50_ms=10.0,
    p95_ms=199.0,
    p99_ms=499.0,
    max_ms=900.0,
    failed=0.0009,
    wrong_answers=90,
    users_max=200,
)
NOTHING = Latency(count=0, p50_ms=0, p99_ms=0, p999_ms=0, max_ms=0)
STREAMS = StreamReport(
    open=10_000,
    opened=10_000,
    closed=0,
    refused=0,
    reconnected=0,
    deliveries=5_000,
    others=0,
    bytes=1,
    ids=1,
    comments=0,
    controls={},
    seconds=1,
    deliveries_per_second=1,
    steady=NOTHING,
    cut=NOTHING,
    slow=NOTHING,
    resumed=NOTHING,
    lost=0,
    doubled=0,
    foreign=0,
    misses=0,
    faults=[],
    processor_seconds=1,
    wall_seconds=1,
)
STATEMENTS = Statements({0.005: 90.0, 0.05: 95.1, 0.1: 99.0, float("inf"): 100.0})
FOUND = GateFound(SUMMARY, STATEMENTS, STREAMS, 0.5, acknowledged=30_000)

FOUND_WITHOUT_ERRORS = replace(FOUND, summary=replace(SUMMARY, failed=0.0, wrong_answers=0))


def verdicts(found: GateFound, plan: GatePlan = PLAN, code: int = 0) -> list[str]:
    return [row.verdict(judged=plan.judged) for row in rows(plan, found, code)]


def test_the_profile_is_two_minutes_up_five_at_half_two_up_five_at_all_two_down() -> None:
    found = [(stage["duration"], stage["target"]) for stage in USERS.stages()]
    minutes = [("120.000s", 100), ("300.000s", 100), ("120.000s", 200), ("300.000s", 200)]
    assert found == [*minutes, ("120.000s", 0)]


def test_a_run_at_its_bars_holds() -> None:
    *bars, last = verdicts(FOUND)
    assert bars == ["holds", "holds", "measured"]
    assert last == "holds"


@pytest.mark.parametrize(
    "summary",
    [
        replace(SUMMARY, p95_ms=200.0),
        replace(SUMMARY, p99_ms=500.0),
        replace(SUMMARY, failed=0.001),
        replace(SUMMARY, wrong_answers=100),
        # Fast for the few requests that came: users who wait ask a slow system less.
        replace(SUMMARY, a_second=109.0),
    ],
    ids=["p95", "p99", "failed", "wrong answers", "rate"],
)
def test_rest_beyond_a_bar_misses(summary: Summary) -> None:
    assert verdicts(replace(FOUND, summary=summary))[0] == "MISSED"


def test_two_thirds_of_the_users_are_at_work_on_average() -> None:
    # 2 min up to 100, 5 at 100, 2 up to 200, 5 at 200, 2 down: 2,100 minutes of users in 16.
    assert PLAN.requests_a_second_min == pytest.approx(2_100 / 16 / 1.2)


@pytest.mark.parametrize(
    "changed",
    [{"users": 199}, {"seconds": 959.0}, {"pause_seconds": 1.1}, {"streams": 9_999}],
    ids=["users", "minutes", "pause", "streams"],
)
def test_a_load_lighter_than_promised_is_measured_and_not_judged(changed: dict[str, Any]) -> None:
    promised: dict[str, Any] = {
        "users": 200,
        "seconds": 960.0,
        "pause_seconds": 1.0,
        "streams": 10_000,
    }
    assert gate_plan(**promised) == PLAN
    lighter = gate_plan(**{**promised, **changed})
    assert not lighter.judged
    rest, statements, *_ = (row.verdict() for row in rows(lighter, FOUND_WITHOUT_ERRORS, 0))
    assert (rest, statements) == ("measured", "measured")


@pytest.mark.parametrize(
    ("command", "sizes"),
    [("load-gate", ["--minutes", "15.9"]), ("load-gate", ["--quick"]), ("soak", ["--quick"])],
)
def test_a_run_that_is_not_judged_writes_no_page(
    command: str, sizes: list[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    ended = CliRunner().invoke(app, [command, *sizes, "--markdown", str(page)])
    assert ended.exit_code == EXIT_USAGE
    assert "--markdown" in ended.stderr
    assert not page.exists()


def test_of_100_requests_62_read_and_38_write() -> None:
    mix = re.findall(r"^  \[(\d+), '([a-z ]+)', (\(\) => get)?", SCRIPT.read_text(), re.MULTILINE)
    assert sum(int(weight) for weight, _, get in mix if get) == 62
    assert sum(int(weight) for weight, _, get in mix if not get) == 38


def test_only_a_quick_run_takes_over_what_makes_it_quick(tmp_path: Path) -> None:
    variables = {
        "SHOPSTREAM_POSTGRES_FSYNC": "false",
        "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS": "1",
        "SHOPSTREAM_BACKGROUND_NICE": "0",
    }
    ours = StackSettings.load({**variables, "SHOPSTREAM_DATA_DIR": str(tmp_path)})
    ports = cast("PortReservations", SimpleNamespace(take=itertools.count(20_000).__next__))
    quick = whole_settings("soak", ours, ports, quick_java=True).environ
    judged = whole_settings("soak", ours, ports, quick_java=False).environ
    assert variables.items() <= quick.items()
    assert not variables.keys() & judged.keys()


def test_orders_expire_early_in_a_soak_so_that_each_minute_is_like_any_other(
    tmp_path: Path,
) -> None:
    ours = StackSettings.load({"SHOPSTREAM_DATA_DIR": str(tmp_path)})
    ports = cast("PortReservations", SimpleNamespace(take=itertools.count(20_000).__next__))
    held = {
        bench.name: bench.settings_of(ours, ports, quick_java=False).environ.get(
            "SHOPSTREAM_RESERVATION_SECONDS"
        )
        for bench in (load_gate(GATE_QUICK), soak(SOAK_QUICK))
    }
    assert held == {"load-gate": None, "soak": "60"}


def test_one_error_makes_a_short_run_wrong_though_speed_is_not_judged() -> None:
    one = replace(SUMMARY, p95_ms=900.0, failed=0.0, wrong_answers=0)
    assert verdicts(replace(FOUND, summary=one), GATE_QUICK)[0] == "measured"
    wrong = replace(one, wrong_answers=1)
    assert verdicts(replace(FOUND, summary=wrong), GATE_QUICK)[0] == "WRONG"


def test_statements_of_which_more_than_one_in_twenty_takes_above_50_ms_miss() -> None:
    slow = Statements({**STATEMENTS.at_most, 0.05: 95.0})
    assert verdicts(replace(FOUND, statements=slow))[1] == "MISSED"
    none = Statements(dict.fromkeys(STATEMENTS.at_most, 0.0))
    assert verdicts(replace(FOUND, statements=none))[1] == "WRONG"


def streams(**changed: object) -> StreamReport:
    return StreamReport(
        **{**{name: getattr(STREAMS, name) for name in STREAMS.__struct_fields__}, **changed}
    )


@pytest.mark.parametrize(
    "report",
    [streams(faults=["lost 1"]), streams(open=9_999), streams(deliveries=0)],
    ids=["fault", "closed", "nothing came"],
)
def test_streams_that_miss_close_or_get_nothing_are_wrong(report: StreamReport) -> None:
    assert verdicts(replace(FOUND, streams=report))[2] == "WRONG"


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (FOUND, 1),
        (replace(FOUND, acknowledged=0), 0),
        (replace(FOUND, wrong=["api has ended by itself"]), 0),
    ],
    ids=["verify", "nothing acknowledged", "a death"],
)
def test_what_verify_or_the_system_says_is_the_last_row(found: GateFound, code: int) -> None:
    last: Row = rows(PLAN, found, code)[-1]
    assert last.verdict() == "WRONG"
    assert last.verdict(judged=False) == "WRONG"


def test_a_quantile_is_exact_at_a_border_and_straight_between_two() -> None:
    assert STATEMENTS.quantile_ms(0.951) == pytest.approx(50.0)
    assert STATEMENTS.quantile_ms(0.45) == pytest.approx(2.5)
    assert STATEMENTS.quantile_ms(0.9705) == pytest.approx(75.0)
    assert STATEMENTS.quantile_ms(1.0) == float("inf")


def test_statements_are_added_up_over_operations_and_counted_from_a_moment_on() -> None:
    text = "\n".join(
        [
            "# TYPE shopstream_db_statement_seconds histogram",
            *(
                f'shopstream_db_statement_seconds_bucket{{operation="{name}",le="{le}"}} {count}'
                for name in ("select", "commit")
                for le, count in (("0.05", 3), ("+Inf", 4))
            ),
            "",
        ]
    )
    read = Statements.read(text)
    assert read.at_most == {0.05: 6.0, float("inf"): 8.0}
    assert read.since(Statements({0.05: 5.0, float("inf"): 5.0})).count == 3.0
    with pytest.raises(StackError, match="no shopstream_db_statement_seconds"):
        Statements.read("# nothing\n")


def test_what_k6_acknowledged_becomes_a_journal_that_verify_reads(tmp_path: Path) -> None:
    answer = {"id": "o1", "version": 3, "status": "paid", "stock": None}
    write = {"method": "POST", "path": "/orders/o1/pay", "status": 200, "answer": answer}
    (tmp_path / ACKNOWLEDGED).write_text(json.dumps(write) + "\n")
    with Journal.open(tmp_path / "journal", "run", SystemClock()) as journal:
        assert into_journal(tmp_path, journal) == 1
    lines = [line for _, line in lines_of(journal.path)]
    assert [promised(line) for line in lines if line["kind"] == "write"] == [[("order", "o1", 3)]]


def test_a_line_that_is_no_acknowledged_write_is_named(tmp_path: Path) -> None:
    (tmp_path / ACKNOWLEDGED).write_text('{"method":"POST"}\n')
    with (
        Journal.open(tmp_path / "journal", "run", SystemClock()) as journal,
        pytest.raises(StackError, match=r"k6\.acknowledged\.jsonl:1 is no acknowledged write"),
    ):
        into_journal(tmp_path, journal)


def test_a_summary_without_requests_says_so() -> None:
    with pytest.raises(StackError, match=r"http_req_duration.*made no requests"):
        Summary.of({})


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_k6_that_fails_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = program(tmp_path / "k6", "echo the script is broken; exit 107")
    with pytest.raises(StackError, match=r"exit 107.*the script is broken"):
        asyncio.run(run_k6(broken, "http://x", USERS, tmp_path))


def test_a_crossed_threshold_is_left_to_the_judge(tmp_path: Path) -> None:
    metrics = {
        "http_req_duration": {"values": {"med": 1, "p(95)": 2, "p(99)": 3, "max": 4}},
        "http_reqs": {"values": {"count": 5, "rate": 6.5}},
        "http_req_failed": {"values": {"rate": 0.5}},
        "checks": {"values": {"fails": 2}},
        "vus_max": {"values": {"max": 7}},
    }
    (tmp_path / "k6.json").write_text(json.dumps(metrics))
    crossed = program(tmp_path / "k6", "exit 99")
    found = asyncio.run(run_k6(crossed, "http://x", USERS, tmp_path))
    assert (found.requests, found.failed, found.wrong_answers, found.users_max) == (5, 0.5, 2, 7)
