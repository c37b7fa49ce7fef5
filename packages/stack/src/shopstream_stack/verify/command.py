"""`shopstream verify`: one check, a table a row an invariant, the report as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from shopstream_stack.console import reporting
from shopstream_stack.demo.target import Target
from shopstream_stack.settings import VERIFY_REPORT, StackSettings
from shopstream_stack.verify.report import Invariant, Report
from shopstream_stack.verify.run import verify

EXIT_VIOLATED: Final = 1
#: The last report, in the data directory.
REPORT: Final = VERIFY_REPORT

_STYLES: Final = {"holds": "[green]holds[/]", "violated": "[bold red]VIOLATED[/]"}


def run(
    settings: StackSettings,
    console: Console,
    journals: Sequence[Path],
    json_path: Path | None = None,
) -> int:
    """Check the running system, print and store what was found; the exit code.

    Raises StackError when a component does not answer.
    """
    target = Target.local(settings)
    with reporting(console) as reporter:
        report = verify(target, journals, data=settings.data, reporter=reporter)
    show(console, report)
    store(report, settings.data, json_path)
    return 0 if report.holds else EXIT_VIOLATED


def store(report: Report, data: Path, path: Path | None = None) -> None:
    """Keep the report as the last one, and write it where the caller wants it."""
    text = json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n"
    last = data / REPORT
    last.parent.mkdir(parents=True, exist_ok=True)
    # Readers see the old one or the new one, never half of it.
    fresh = last.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(last)
    if path is not None:
        path.write_text(text, encoding="utf-8")


def show(console: Console, report: Report) -> None:
    """Print the table, then the first violations of each kind and what was not checked."""
    table = Table(title="What must hold", title_justify="left")
    for column in ("", "invariant", "looked at", "found", "verdict"):
        table.add_column(column, overflow="fold")
    for row in report.invariants:
        verdict = _STYLES.get(row.status, f"[yellow]{row.status}[/]")
        table.add_row(str(row.number), row.title, _numbers(row.counted), _found(row), verdict)
    console.print(table)
    for row in report.invariants:
        for violation in row.violations:
            _say(console, f"  {row.number}. {violation}", "red")
        for why in row.unchecked:
            _say(console, f"  {row.number}. not checked: {why}", "yellow")
    for note in report.notes:
        _say(console, f"  {note}", "yellow")
    _verdict(console, report)


def _verdict(console: Console, report: Report) -> None:
    seconds = f"{report.seconds:.0f} s"
    if report.holds:
        events = report.row(1).counted.get("events", 0)
        console.print(f"Everything holds: {events:,} events, {seconds}.", style="bold green")
        return
    count = report.violations.total()
    text = f"{count:,} violations" if count else "Not everything could be checked"
    console.print(f"{text}, {seconds}.", style="bold red")


def _found(row: Invariant) -> str:
    if row.status == "not checked" and not row.kinds:
        return ""
    return _numbers(row.kinds)


def _numbers(counted: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counted.items())


def _say(console: Console, text: str, style: str) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
