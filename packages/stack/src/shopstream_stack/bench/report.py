"""A benchmark's figures as a table for people, and as Markdown for a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from shopstream_stack import marks
from shopstream_stack.bench.figures import Found
from shopstream_stack.bench.result import Row

STYLES: Final = {"holds": "green", "measured": "cyan", "MISSED": "bold red", "WRONG": "bold red"}
#: Figures that have a column of their own: key, heading, format.
_COLUMNS: Final = (
    ("rate", "a second", ",.0f"),
    ("p50Ms", "p50 ms", ".1f"),
    ("p95Ms", "p95 ms", ".1f"),
    ("p99Ms", "p99 ms", ".1f"),
    ("floor", "floor", ",.0f"),
    ("ratio", "ratio", ".2f"),
)
#: Such that only some benchmarks have.
_FURTHER: Final = (
    ("cpuMicros", "µs of CPU each", ",.1f"),
    ("perCore", "a core's second", ",.0f"),
    ("mib", "MiB", ".0f"),
    ("kib", "KiB each", ".1f"),
    ("seconds", "s", ".1f"),
    ("growth", "growth", "+.1%"),
    ("growthOverAll", "growth over all", "+.1%"),
)
Columns = Sequence[tuple[str, str, str]]


def show(console: Console, found: Found) -> None:
    """Print the table, then what is wrong and what must be known."""
    table = Table(title=found.title, title_justify="left")
    columns = _columns(found.rows)
    for heading in _headings(columns):
        table.add_column(heading, overflow="fold")
    for row in found.rows:
        *cells, verdict = _cells(row, columns, judged=found.judged)
        table.add_row(*cells, f"[{STYLES[verdict]}]{verdict}[/]")
    console.print(table)
    show_faults(console, found)
    for text in (measured_on(found), *found.notes):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def show_faults(console: Console, found: Found) -> None:
    """Print what is wrong, a line a fault."""
    for row in found.rows:
        for fault in row.faults:
            console.print(f"{row.name}: {fault}", style="red", markup=False, soft_wrap=True)


def measured_on(found: Found) -> str:
    """When, of which commit and on what, in one line."""
    machine = ", ".join(f"{name} {value}" for name, value in found.machine.items())
    said = f"Measured {found.started_at[:16]}Z at commit {found.commit or 'unknown'}: {machine}"
    if found.busy_percent is not None:
        said += f", {found.busy_percent:.0f} % busy before"
        if found.judged and not found.idle:
            said += " (NOT IDLE: the clock's figures count for little)"
    return said


def put_table(path: Path, found: Found) -> None:
    """Put a benchmark's table between its marks in a page, or write a page of its own.

    Raises StackError when the page lacks the marks, and OSError.
    """
    marks.put(path, table_mark(found.bench), markdown(found))


def table_mark(bench: str) -> str:
    """The mark of a benchmark's table."""
    return f"bench-{bench}"


def markdown(found: Found) -> str:
    """The same for a page of documentation; cost against size has its own place there."""
    rows = [row for row in found.rows if not row.points]
    columns = _columns(rows)
    lines = [_headings(columns), *(_cells(row, columns, judged=found.judged) for row in rows)]
    notes = [f"- {text}" for text in (measured_on(found), *found.notes)]
    return "\n".join([*table_lines(lines), "", *notes, ""])


def table_lines(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells, the headings first, as Markdown."""
    headings, *rows = lines
    return [f"| {' | '.join(one)} |" for one in (headings, ["---"] * len(headings), *rows)]


def bars_of(row: Row) -> str:
    """What a row had to reach."""
    return ", ".join(f"{bar.name} {bar.how} {bar.limit:,.7g}" for bar in row.bars)


def _columns(rows: Sequence[Row]) -> Columns:
    further = [one for one in _FURTHER if any(one[0] in row.figures for row in rows)]
    return (*_COLUMNS, *further)


def _headings(columns: Columns) -> list[str]:
    return ["what", *(heading for _, heading, _ in columns), "bars", "verdict"]


def _cells(row: Row, columns: Columns, *, judged: bool) -> list[str]:
    figures = [
        format(row.figures[key], how) if key in row.figures else "" for key, _, how in columns
    ]
    return [row.name, *figures, bars_of(row), row.verdict(judged=judged)]
