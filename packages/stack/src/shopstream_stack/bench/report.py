"""The results as a table for people, as Markdown for a page, and as JSON for programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from shopstream_stack.bench.result import Results, Row
from shopstream_stack.process import write_atomically

#: Around the table of a benchmark in a page that has more to say.
MARK_BEGIN: Final = "<!-- {} -->"
MARK_END: Final = "<!-- end of {} -->"
_STYLES: Final = {"holds": "green", "measured": "cyan", "MISSED": "bold red", "WRONG": "bold red"}
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
    ("perCore", "a core's second", ",.0f"),
    ("mib", "MiB", ".0f"),
    ("kib", "KiB each", ".1f"),
    ("seconds", "s", ".1f"),
)
Columns = Sequence[tuple[str, str, str]]


def show(console: Console, title: str, results: Results, *, judged: bool) -> None:
    """Print the table, then what is wrong and what must be known."""
    table = Table(title=title, title_justify="left")
    columns = _columns(results)
    for heading in _headings(columns):
        table.add_column(heading, overflow="fold")
    for row in results.rows:
        *cells, verdict = _cells(row, columns, judged=judged)
        table.add_row(*cells, f"[{_STYLES[verdict]}]{verdict}[/]")
    console.print(table)
    for row in results.rows:
        for fault in row.faults:
            console.print(f"{row.name}: {fault}", style="red", markup=False, soft_wrap=True)
    for text in results.notes:
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def put_markdown(path: Path, command: str, results: Results, *, judged: bool) -> None:
    """Write the table between the command's marks in a page, or as a page of its own.

    Raises OSError.
    """
    text = markdown(results, judged=judged)
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    before, begin, rest = page.partition(MARK_BEGIN.format(command))
    _, end, after = rest.partition(MARK_END.format(command))
    if begin and end:
        text = f"{before}{begin}\n{text}{end}{after}"
    write_atomically(path, text)


def markdown(results: Results, *, judged: bool) -> str:
    """The same for a page of documentation."""
    columns = _columns(results)
    headings = _headings(columns)
    lines = [headings, ["---"] * len(headings)]
    lines += [_cells(row, columns, judged=judged) for row in results.rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([table, "", *(f"- {text}" for text in results.notes), ""])


def as_json(results: Results, *, judged: bool, about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for a program."""
    return {
        **about,
        "judged": judged,
        "holds": holds(results, judged=judged),
        "notes": results.notes,
        "rows": [
            {
                "name": row.name,
                "figures": dict(row.figures),
                "bars": [
                    {
                        "name": bar.name,
                        "value": bar.value,
                        "how": bar.how,
                        "limit": bar.limit,
                        "holds": bar.holds,
                    }
                    for bar in row.bars
                ],
                "faults": list(row.faults),
                "note": row.note,
                "verdict": row.verdict(judged=judged),
            }
            for row in results.rows
        ],
    }


def holds(results: Results, *, judged: bool) -> bool:
    """Whether no row is wrong and no bar that counts is missed."""
    return all(row.verdict(judged=judged) not in {"MISSED", "WRONG"} for row in results.rows)


def _columns(results: Results) -> Columns:
    further = [one for one in _FURTHER if any(one[0] in row.figures for row in results.rows)]
    return (*_COLUMNS, *further)


def _headings(columns: Columns) -> list[str]:
    return ["what", *(heading for _, heading, _ in columns), "bars", "verdict"]


def _cells(row: Row, columns: Columns, *, judged: bool) -> list[str]:
    figures = [
        format(row.figures[key], how) if key in row.figures else "" for key, _, how in columns
    ]
    bars = ", ".join(f"{bar.name} {bar.how} {bar.limit:,.7g}" for bar in row.bars)
    return [row.name, *figures, bars, row.verdict(judged=judged)]
