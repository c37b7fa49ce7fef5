"""One report of all benchmarks: what is measured again, what is written, and what is kept."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from tests.support.bench import MACHINE, found_of
from typer.testing import CliRunner

from shopstream_stack import cli, marks
from shopstream_stack.bench import machine, page, picture, report, run_all
from shopstream_stack.bench.benches import BENCHES
from shopstream_stack.bench.figures import CHANGED, Found, Kept, as_json, read
from shopstream_stack.bench.names import NAMES, Form
from shopstream_stack.bench.result import Bar, Point, Row
from shopstream_stack.errors import StackError
from shopstream_stack.settings import StackSettings

PROJECT = Path(__file__).parents[2]
HEAD = "0123456789ab"
REACHED = Row("fast", {"rate": 900.0, "floor": 1_000.0, "ratio": 0.9}, (Bar("r", 0.9, ">=", 0.5),))
LATE = Row("late", {"p50Ms": 5.0, "p99Ms": 70.0}, (Bar("p99 ms", 70.0, "<=", 60.0),))
SIZED = (
    Point("connections", "one delivery", 100, 9.0),
    Point("connections", "one delivery", 10_000, 5.0),
    Point("connections", picture.MEMORY, 10_000, 10.3),
    Point("events", "relay, drain", 10_000, 60.0),
    Point("distinct", "aggregates worker", 1, 12.0),
    Point("rows", "POST /products", 1_000_000, 4.0),
)
COSTS = Row("Cost at sizes", {"cpuMicros": 5.0}, points=SIZED)


@dataclass(slots=True)
class _Bench:
    """A benchmark that finds what it is told to, and counts how often it was asked."""

    name: str
    kept: Kept
    find: Callable[[], Found]
    runs: int = 0
    title: str = "What it measures"

    def run(self, settings: StackSettings, form: Form) -> Found:
        self.runs += 1
        found = self.find()
        self.kept.put(found)
        return found


def _commit(folder: Path) -> str:
    return machine.commit(folder)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with a page in it."""
    folder = tmp_path / "project"
    (folder / "docs").mkdir(parents=True)
    marks = ("bench", "bench-sizes", *(f"bench-{name}" for name in NAMES))
    parts = [f"before {m}\n<!-- {m} -->\nold {m}\n<!-- end of {m} -->\n" for m in marks]
    (folder / "docs" / "benchmarks.md").write_text("".join(parts) + "last words\n")
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(folder))
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "first")):
        subprocess.run([*git, *words], check=True, capture_output=True)
    return folder


def _settings(project: Path) -> StackSettings:
    return StackSettings.load({"SHOPSTREAM_DATA_DIR": str(project.parent / "data")}).model_copy(
        update={"project": project}
    )


def _run(
    project: Path, kept: Kept, *benches: _Bench, fresh: bool = False, write: bool = False
) -> tuple[int, str, dict[str, Any]]:
    console, told = Console(width=200), project.parent / "told.json"
    wish = run_all.Wish("full", fresh=fresh, write=write, json=told)
    with console.capture() as captured:
        code = run_all.bench_all(benches, _settings(project), console, kept, wish)
    return code, captured.get(), json.loads(told.read_text())


def test_every_name_has_a_benchmark_and_its_places_in_the_page() -> None:
    assert [one.name for one in BENCHES] == list(NAMES)
    assert (PROJECT / run_all.PAGE).exists()
    page.require_marks(PROJECT / run_all.PAGE)


def test_a_runs_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = found_of(REACHED, LATE, COSTS, notes=["said"])
    (tmp_path / "file.json").write_bytes(as_json(found))
    assert read(tmp_path / "file.json") == found


def test_what_was_measured_at_this_commit_is_not_measured_again_unless_fresh(
    project: Path, tmp_path: Path
) -> None:
    kept = Kept(tmp_path / "kept")
    here = {**machine.machine(), "brokers": "1"}
    bench = _Bench("api", kept, lambda: found_of(REACHED, commit=_commit(project), machine=here))
    assert _run(project, kept, bench)[0] == 0
    code, text, _ = _run(project, kept, bench)
    assert (code, bench.runs) == (0, 1)
    assert "measured already" in text
    _run(project, kept, bench, fresh=True)
    assert bench.runs == 2


def test_another_form_another_commit_and_changed_code_are_measured(
    project: Path, tmp_path: Path
) -> None:
    kept = Kept(tmp_path / "kept")
    kept.put(found_of(REACHED, form="quick", commit=HEAD))
    assert kept.to_reuse("api", "full", HEAD, MACHINE) is None
    assert kept.to_reuse("api", "quick", "ba9876543210", MACHINE) is None
    assert kept.to_reuse("api", "quick", HEAD, MACHINE) is not None
    kept.put(found_of(REACHED, form="quick", commit=HEAD + CHANGED))
    assert kept.to_reuse("api", "quick", HEAD + CHANGED, MACHINE) is None
    kept.put(found_of(REACHED, form="quick", commit=""))
    assert kept.to_reuse("api", "quick", "", MACHINE) is None


WRONG = Row("wrong", {}, faults=("two of one event",))


@pytest.mark.parametrize(
    ("found", "again"),
    [
        pytest.param(found_of(REACHED), False, id="holds"),
        pytest.param(found_of(REACHED, LATE), True, id="missed a bar"),
        pytest.param(found_of(REACHED, WRONG), True, id="wrong"),
        pytest.param(found_of(), True, id="measured nothing"),
        pytest.param(found_of(REACHED, busy_percent=50.0), True, id="others at work"),
        pytest.param(found_of(COSTS, form="sizes", busy_percent=50.0), False, id="no bars count"),
    ],
)
def test_what_does_not_hold_and_what_was_measured_beside_others_is_measured_again(
    tmp_path: Path, found: Found, *, again: bool
) -> None:
    kept = Kept(tmp_path)
    kept.put(found)
    known = kept.to_reuse("api", found.form, HEAD, MACHINE)
    assert (known is None) is again


def test_figures_of_another_machine_are_not_taken_for_this_one_s(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put(found_of(REACHED))
    assert kept.to_reuse("api", "full", HEAD, {**MACHINE, "memory": "1 GiB"}) is None


def test_a_run_beside_others_says_so() -> None:
    assert "NOT IDLE" in report.measured_on(found_of(REACHED, busy_percent=50.0))
    assert "NOT IDLE" not in report.measured_on(found_of(REACHED))


def test_versions_that_differ_are_told_of_each_benchmark(tmp_path: Path) -> None:
    written = tmp_path / "page.md"
    other = msgspec.structs.replace(found_of(REACHED, bench="sse"), versions={"Kafka": "9"})
    marks.put(written, page.SUMMARY_MARK, "")
    marks_of = "".join(f"<!-- bench-{n} -->\n<!-- end of bench-{n} -->\n" for n in ("api", "sse"))
    written.write_text(written.read_text() + marks_of)
    page.write(written, [found_of(REACHED), other], [])
    text = written.read_text()
    assert "- Versions, api: Kafka 4.3.1" in text
    assert "- Versions, sse: Kafka 9" in text


def test_a_page_that_lost_a_mark_is_told_before_anything_is_measured_and_left(
    project: Path, tmp_path: Path
) -> None:
    written = project / "docs" / "benchmarks.md"
    text = written.read_text().replace("<!-- end of bench-sse -->", "")
    written.write_text(text)
    bench = _Bench("api", Kept(tmp_path / "kept"), lambda: found_of(REACHED))
    with pytest.raises(StackError, match="has no <!-- bench-sse -->"):
        _run(project, bench.kept, bench, write=True)
    assert bench.runs == 0
    with pytest.raises(StackError, match="has no <!-- bench-sse -->"):
        report.put_table(written, found_of(REACHED, bench="sse"))
    assert written.read_text() == text


def test_a_page_of_its_own_takes_the_next_table_too(tmp_path: Path) -> None:
    for words in ("first", "second"):
        report.put_table(tmp_path / "own.md", found_of(REACHED, notes=[words]))
    text = (tmp_path / "own.md").read_text()
    assert "second" in text
    assert "first" not in text


def test_a_change_of_the_page_is_no_change_of_the_code(project: Path, tmp_path: Path) -> None:
    head = _commit(project)
    assert len(head) == 12
    (project / "docs" / "benchmarks.md").write_text("another page\n")
    assert _commit(project) == head
    (project / "code.py").write_text("x = 1\n")
    assert _commit(project) == head + CHANGED
    assert machine.commit(tmp_path) == ""


def test_a_benchmark_that_fails_is_shown_ends_no_other_and_is_measured_the_next_time(
    project: Path, tmp_path: Path
) -> None:
    kept = Kept(tmp_path / "kept")

    def fails() -> Found:
        raise StackError("no broker")

    broken = _Bench("relay", kept, fails)
    here, head = machine.machine(), _commit(project)
    good = _Bench("sse", kept, lambda: found_of(REACHED, bench="sse", commit=head, machine=here))
    code, text, told = _run(project, kept, broken, good)
    assert code == 1
    assert good.runs == 1
    assert "StackError: no broker" in text
    assert [one["holds"] for one in told["benches"]] == [False, True]
    _run(project, kept, broken, good)
    assert (broken.runs, good.runs) == (2, 1)


def test_a_missed_bar_is_exit_code_1(project: Path, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    bench = _Bench("api", kept, lambda: found_of(REACHED, LATE))
    code, text, _ = _run(project, kept, bench)
    assert code == 1
    assert "MISSED" in text


@pytest.mark.parametrize("inside_a_call_back", [False, True])
def test_an_interrupt_ends_all_and_keeps_what_was_measured_before(
    project: Path, tmp_path: Path, *, inside_a_call_back: bool
) -> None:
    kept = Kept(tmp_path / "kept")

    def interrupted() -> Found:
        if inside_a_call_back:
            raise SystemError(
                "poll returned a result with an exception set"
            ) from KeyboardInterrupt()
        raise KeyboardInterrupt

    first = _Bench("api", kept, lambda: found_of(REACHED, commit=_commit(project)))
    last = _Bench("sse", kept, lambda: found_of(REACHED, bench="sse"))
    with pytest.raises(KeyboardInterrupt):
        _run(project, kept, first, _Bench("relay", kept, interrupted), last)
    assert last.runs == 0
    assert kept.get("api", "full") is not None


def test_the_summary_says_what_was_held_against_the_floor() -> None:
    found = found_of(REACHED, LATE, COSTS, Row("memory", {"kib": 10.25}))
    assert page.summary(found) == [
        ("api", "fast", "900/s", "1,000/s", "0.90", "r >= 0.5", "holds"),
        ("api", "late", "p50 5.0, p99 70.0 ms", "", "", "p99 ms <= 60", "MISSED"),
        ("api", "memory", "10.2 KiB each", "", "", "", "measured"),
    ]


def test_the_summary_compares_the_figure_that_the_peer_has_too() -> None:
    row = Row("archive", {"rate": 50.0, "perCore": 300.0, "floor": 100.0, "ratio": 3.0})
    assert page.summary(found_of(row))[0][2:5] == ("300/s", "100/s", "3.00")


def test_the_page_keeps_its_prose_and_the_tables_of_what_was_not_measured(
    project: Path, tmp_path: Path
) -> None:
    kept = Kept(tmp_path / "kept")
    kept.put(found_of(LATE, bench="relay", commit=HEAD))
    bench = _Bench("api", kept, lambda: found_of(REACHED, COSTS, notes=["said once"]))
    _run(project, kept, bench, write=True)
    text = (project / "docs" / "benchmarks.md").read_text()
    for kept_text in ("before bench\n", "old bench-sse\n", "old bench-analytics\n", "last words\n"):
        assert kept_text in text
    for gone in ("old bench\n", "old bench-api\n", "old bench-relay\n", "old bench-sizes\n"):
        assert gone not in text
    assert "| api | fast | 900/s | 1,000/s | 0.90 | r >= 0.5 | holds |" in text
    assert "| relay | late | p50 5.0, p99 70.0 ms |  |  | p99 ms <= 60 | MISSED |" in text
    assert "- said once" in text
    assert "- Versions: Kafka 4.3.1" in text
    assert "| connections | memory a connection | 10,000 | 10.3 KiB a connection |" in text
    assert "(benchmarks/cost-against-size.png)" in text
    drawn = project / "docs" / "benchmarks" / page.PICTURE
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_the_same_points_are_the_same_picture(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        picture.save(tmp_path / name, SIZED)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_less_than_a_tick_is_no_point_of_a_logarithmic_axis() -> None:
    none = Row("r", {}, points=(Point("rows", "POST /products", 10, 0.0),))
    assert picture.points_of([found_of(none, COSTS)]) == list(SIZED)


def test_the_newer_of_a_full_run_and_one_of_sizes_is_drawn(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    kept.put(found_of(COSTS, form="full", started_at="2026-11-22T10:00:00Z"))
    kept.put(found_of(COSTS, form="sizes", started_at="2026-11-22T11:00:00Z"))
    kept.put(found_of(COSTS, form="quick", started_at="2026-11-22T12:00:00Z"))
    assert [one.form for one in run_all.newest_sizes(kept)] == ["sizes"]


def test_versions_of_what_is_measured_are_told() -> None:
    found = machine.versions()
    assert {"Python", "Kafka", "DynamoDB Local", "MinIO", "confluent-kafka"} <= set(found)
    assert all(found.values())
    assert machine.machine()["processors"].partition(" x ")[2]
    assert 0 <= machine.busy_percent() <= 100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bench", "--only", "nothing"), "--only nothing: the benchmarks are api"),
        (("bench", "--quick", "--write"), "leave out one of the two"),
        (("bench-relay", "--quick", "--sizes"), "leave out one of the two"),
        (("bench-e2e", "--sizes"), "e2e has one size only"),
        (("bench", "--sizes", "--only", "api,e2e"), "e2e has one size only"),
    ],
)
def test_a_wrong_call_is_told_before_anything_is_started(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 2
    assert said in result.output + capsys.readouterr().err
