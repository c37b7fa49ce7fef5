"""What the benchmark concludes: bars, verdicts, what differs, and how it is written down."""

import json

from rich.console import Console
from tests.support.bench import found_of

from shopstream_stack.bench import report
from shopstream_stack.bench.evidence import differences
from shopstream_stack.bench.figures import as_json
from shopstream_stack.bench.load import LoadReport, LoadResult
from shopstream_stack.bench.result import Bar, Row

REACHED = Bar("ratio", 0.71, ">=", 0.7)
MISSED = Bar("p99 ms", 35.1, "<=", 35.0)


def test_a_bar_is_reached_at_its_limit() -> None:
    assert Bar("ratio", 0.7, ">=", 0.7).holds
    assert Bar("p99 ms", 35.0, "<=", 35.0).holds
    assert not Bar("sold", 99, "==", 100).holds
    assert not MISSED.holds


def test_a_row_holds_only_if_every_bar_is_reached() -> None:
    assert Row("r", {}, (REACHED,)).verdict() == "holds"
    assert Row("r", {}, (REACHED, MISSED)).verdict() == "MISSED"
    assert Row("r", {}).verdict() == "measured"


def test_a_fault_voids_whatever_was_measured() -> None:
    faulty = Row("r", {"rate": 9_000.0}, (REACHED,), ("1 lost",))
    assert faulty.verdict() == "WRONG"
    assert faulty.verdict(judged=False) == "WRONG"
    assert not found_of(faulty, form="quick").holds


def test_a_quick_run_is_judged_by_correctness_alone() -> None:
    slow = Row("r", {}, (MISSED,))
    assert slow.verdict(judged=False) == "measured"
    assert found_of(slow, form="quick").holds
    assert not found_of(slow).holds


def test_what_is_lost_doubled_or_of_nobody_is_told_apart() -> None:
    assert differences("rows", ["a", "b"], ["b", "a"]) == []
    assert differences("rows", ["a", "b"], ["b", "b", "c"]) == [
        "rows: 1 lost, the first a",
        "rows: 1 of nobody, the first c",
        "rows: 1 doubled, the first b",
    ]


def _result(by_status: dict[int, int], *, errors: int = 0) -> LoadResult:
    figures = {"seconds": 1.0, "requests_per_second": 2.0, "p50_ms": 1.0, "p95_ms": 1.0}
    seen = LoadReport(
        **figures,
        p99_ms=1.0,
        max_ms=1.0,
        by_status=by_status,
        all_by_status=by_status,
        transport_errors=errors,
        samples=["503 busy"],
    )
    return LoadResult(seen, [])


def test_an_unexpected_answer_is_a_fault_with_a_sample() -> None:
    result = _result({201: 2, 503: 1}, errors=1)
    assert result.unexpected((201, 503))[0] == "1 requests without an answer"
    assert result.unexpected((201,)) == [
        "1 answers 503",
        "1 requests without an answer",
        "503 busy",
    ]


def test_a_load_that_nobody_answered_in_time_is_a_fault() -> None:
    assert _result({}).unexpected((200,)) == ["no answer in the measured time"]


def test_the_table_shows_figures_faults_and_notes() -> None:
    console = Console(width=160)
    found = found_of(
        Row("fast", {"rate": 1234.5, "ratio": 0.71}, (REACHED,)),
        Row("wrong", {}, (), ("1 event lost",)),
        notes=["said once"],
    )
    with console.capture() as captured:
        report.show(console, found)
    text = captured.get()
    assert "1,234" in text
    assert "wrong: 1 event lost" in text
    assert "said once" in text
    assert "at commit 0123456789ab: processors 2 x a model" in text


def test_the_json_holds_bars_and_verdicts() -> None:
    told = json.loads(as_json(found_of(Row("r", {"rate": 1.0}, (REACHED, MISSED)))))
    assert told["machine"] == {"processors": "2 x a model"}
    assert told["judged"] is True
    assert told["holds"] is False
    (row,) = told["rows"]
    assert row["verdict"] == "MISSED"
    assert [bar["holds"] for bar in row["bars"]] == [True, False]
