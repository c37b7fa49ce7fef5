"""Several runs as one table: which measures are one, what p95 is, and where the page gets it."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from shopstream_stack import marks
from shopstream_stack.chaos import summary
from shopstream_stack.chaos.schedule import FAULTS
from shopstream_stack.chaos.summary import Row, Summary
from shopstream_stack.errors import StackError


def fault(
    kind: str,
    *measures: tuple[str, float | None, float],
    wrong: str = "",
    planned: str = "api",
) -> dict[str, Any]:
    return {
        "kind": kind,
        "target": "api",
        "planned_target": planned,
        "measures": [
            {"what": w, "seconds": s, "bar": b, "holds": s is not None and s <= b}
            for w, s, b in measures
        ],
        "notes": ["noted"],
        "wrong": [wrong] if wrong else [],
        "holds": not wrong,
    }


def report(*faults: dict[str, Any], **more: Any) -> dict[str, Any]:
    lost = {"violations": {"lost": more.pop("lost", 0), "phantom": 0}}
    return {
        "seed": 3,
        "seconds": 600.0,
        "totals": {"acknowledged": 15_132, "published": 27_792, "delivered": 89_195},
        "faults": list(faults),
        "wrong": [],
        "verify": {"exitCode": 0, "report": {"invariants": [lost, lost]}},
        "holds": True,
        **more,
    }


def test_a_measure_is_one_whichever_process_or_worker_it_was_taken_of() -> None:
    rows = Summary(
        [
            report(fault("kill", ("api serves", 1.0, 5.0), ("events are published", 2.0, 10.0))),
            report(
                fault("kill", ("api-2 serves", 3.0, 5.0)),
                fault("rebalance", ("the second's archive has partitions", 4.0, 30.0)),
                fault("rebalance", ("the second's aggregates has partitions", 5.0, 30.0)),
                fault(
                    "analytics-kill", ("recent stores", 6.0, 20.0), ("archive stores", 7.0, 20.0)
                ),
                fault("recreate", ("api says topic_recreated", 8.0, 60.0)),
            ),
        ]
    ).rows()
    assert [(row.kind, row.what, row.seconds) for row in rows] == [
        ("analytics-kill", "a sink stores", (6.0, 7.0)),
        ("kill", "the API serves", (1.0, 3.0)),
        ("kill", "events are published", (2.0,)),
        ("rebalance", "a second service joins", (4.0, 5.0)),
        ("recreate", "/health says topic_recreated", (8.0,)),
    ]


@pytest.mark.parametrize(
    ("count", "never", "p95"),
    [(1, 0, 1.0), (19, 0, 19.0), (20, 0, 19.0), (39, 1, 38.0), (9, 1, None)],
)
def test_p95_is_by_nearest_rank_and_nothing_if_that_one_never_recovered(
    count: int, never: int, p95: float | None
) -> None:
    row = Row("kill", "serves", tuple(float(n) for n in range(count, 0, -1)), never, 100.0)
    assert row.p95 == p95
    assert row.worst == (None if never else float(count))
    assert row.holds == (not never)


def test_a_row_is_held_against_its_worst() -> None:
    assert Row("kill", "serves", (1.0, 5.0), 0, 5.0).holds
    assert not Row("kill", "serves", (1.0, 5.1), 0, 5.0).holds


def test_the_promises_are_taken_from_the_kinds_they_are_made_for() -> None:
    known = {kind for promise in summary.PROMISES for kind, _ in promise.measures}
    assert known <= FAULTS.keys()
    found = Summary(
        [
            report(
                fault(
                    "kill",
                    *(("api serves", 1.0, 5.0), ("events are published", None, 10.0)),
                    planned="leader",
                ),
                fault("kill", ("api-2 serves", 2.0, 5.0), ("events are published", 0.1, 10.0)),
                fault("stop", ("events are published", 0.1, 10.0), planned="leader"),
                fault("database-kill", ("api serves", 9.0, 30.0)),
                fault("stream-kill", ("all streams resumed", 2.0, 5.0)),
                fault("stream-stop", ("events are delivered", 3.0, 5.0)),
                fault(
                    "rebalance",
                    *(("archive stores", 25.0, 30.0), ("the first has all partitions", 9.0, 20.0)),
                ),
            )
        ]
    )
    assert [(row.what, row.seconds, row.never, row.bar) for row in found.promised()] == [
        ("API after SIGKILL", (1.0, 2.0), 0, 5.0),
        ("relay that leads after SIGKILL", (), 1, 10.0),
        ("analytics: a worker's or the service's successor takes over", (9.0,), 0, 20.0),
        ("streams resumed", (2.0, 3.0), 0, 5.0),
    ]
    assert not found.holds


@pytest.mark.parametrize(("seconds", "said"), [(20.0, "holds"), (20.1, "**does not hold**")])
def test_a_promise_is_judged_by_its_own_bar_and_one_put_to_no_test_is_not_shown(
    seconds: float, said: str
) -> None:
    found = Summary([report(fault("worker-kill", ("recent stores", seconds, 60.0)))])
    assert found.holds == (said == "holds")
    page = summary.markdown(found, {})
    assert f"takes over | 1 | {seconds:.1f} | {seconds:.1f} | 20 | {said} |" in page
    assert "| streams resumed | 0 |  |  | 5 | not shown |" in page


def test_a_page_gets_runs_promises_every_kind_and_what_did_not_hold(tmp_path: Path) -> None:
    found = Summary(
        [
            report(
                fault("kill", ("api serves", 1.26, 5.0), ("api-2 serves", 2.0, 5.0)),
                fault("expand"),
            ),
            report(
                fault("cut", ("api serves", None, 30.0), wrong="never came back"),
                lost=2,
                holds=False,
                seed=4,
                wrong=["api ended by itself"],
            ),
        ]
    )
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- chaos -->\nstale\n<!-- end of chaos -->\nafter\n")
    marks.put(page, summary.MARK, summary.markdown(found, {"machine": "2 processors"}))
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "stale" not in written
    for line in (
        "- machine: 2 processors",
        "| 3 | 10 | 1 | 1 | 15,132 | 27,792 | 89,195 | 0 | holds |",
        "| 4 | 10 | 1 | 0 | 15,132 | 27,792 | 89,195 | 0 | **does not hold** |",
        "`verify` holds after 2 of 2 runs: 4 lost, 0 phantom.",
        "- seed 4: `cut` api: api serves never, not within 30 s; never came back; noted",
        "- seed 4: api ended by itself",
        "| API after SIGKILL | 2 | 2.0 | 2.0 | 5 | holds |",
        "| `cut` | 1 | the API serves | 1 | never | never | 30 | **does not hold** |",
        "| `kill` | 1 | the API serves | 2 | 2.0 | 2.0 | 5 | holds |",
    ):
        assert f"{line}\n" in written
    assert not found.holds


def test_a_page_without_marks_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n")
    with pytest.raises(StackError, match="has no <!-- chaos -->"):
        marks.put(page, summary.MARK, "table")
    assert page.read_text() == "text\n"


def test_the_page_of_the_documentation_has_the_marks() -> None:
    page = Path(__file__).parents[2] / "docs" / "reliability.md"
    assert page.exists()
    marks.require(page, [summary.MARK])


def test_runs_are_read_from_their_folders_and_a_folder_of_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report(fault("kill"))))
    assert Summary.read([tmp_path]).faults() == {"kill": 1}
    with pytest.raises(StackError, match=r"other has no readable report.json"):
        Summary.read([tmp_path / "other"])


def test_the_terminal_shows_the_same_rows() -> None:
    console = Console(record=True, width=140)
    rows = (fault("kill", ("api serves", 9.0, 5.0)), fault("cut", ("api serves", 1.0, 30.0)))
    console.print(summary.table(Summary([report(*rows)])))
    said = console.export_text()
    assert "9.0" in said
    assert "WRONG" in said
    assert "holds" in said
