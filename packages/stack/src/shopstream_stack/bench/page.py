"""docs/benchmarks.md: the generated parts of a page whose prose is written by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from shopstream_stack import marks
from shopstream_stack.bench import picture
from shopstream_stack.bench.figures import Found
from shopstream_stack.bench.names import NAMES
from shopstream_stack.bench.report import (
    STYLES,
    bars_of,
    measured_on,
    put_table,
    show_faults,
    table_lines,
    table_mark,
)
from shopstream_stack.bench.result import Row

#: Beside the page, in a folder of its name.
PICTURE: Final = "cost-against-size.png"
#: The generated parts that are of no single benchmark.
SUMMARY_MARK: Final = "bench"
SIZES_MARK: Final = "bench-sizes"
HEADINGS: Final = ("area", "work", "ours", "peer or floor", "ratio", "bars", "verdict")
COST_HEADINGS: Final = ("size of", "what", "size", "cost")
#: What of a row is "ours" where nothing stands beside it: the first of these that it has.
_OURS: Final = (
    ("rate", "{:,.0f}/s"),
    ("seconds", "{:,.1f} s"),
    ("kib", "{:,.1f} KiB each"),
    ("mib", "{:,.0f} MiB"),
)


def summary(found: Found) -> list[Sequence[str]]:
    """A benchmark's lines of the one table; cost against size is shown elsewhere."""
    rows = (row for row in found.rows if not row.points or row.faults)
    return [(found.bench, *_line(row), row.verdict(judged=found.judged)) for row in rows]


def show_summary(console: Console, founds: Sequence[Found]) -> None:
    """Print the one table, what costs what, then what is wrong."""
    lines = [line for found in founds for line in summary(found)]
    if lines:
        table = Table(*HEADINGS, title="All benchmarks", title_justify="left")
        for *cells, verdict in lines:
            table.add_row(*cells, f"[{STYLES[verdict]}]{verdict}[/]")
        console.print(table)
    costs = _costs(founds)
    if costs:
        table = Table(*COST_HEADINGS, title="Cost against size", title_justify="left")
        for one in costs:
            table.add_row(*one)
        console.print(table)
    for found in founds:
        show_faults(console, found)


def require_marks(page: Path) -> None:
    """Raises StackError when the page cannot take all that is written into it."""
    marks.require(page, (SUMMARY_MARK, SIZES_MARK, *map(table_mark, NAMES)))


def write(page: Path, founds: Sequence[Found], sizes: Sequence[Found]) -> None:
    """The summary, the table of each benchmark that has figures, and cost against size.

    ``sizes``: the runs whose points are drawn.

    Raises StackError when the page lacks marks, and OSError.
    """
    for found in founds:
        put_table(page, found)
    if founds:
        marks.put(page, SUMMARY_MARK, _summary(founds))
    points = picture.points_of(sizes)
    if points:
        drawn = page.parent / page.stem / PICTURE
        picture.save(drawn, points)
        marks.put(page, SIZES_MARK, _sizes(f"{page.stem}/{PICTURE}", sizes))


def _line(row: Row) -> tuple[str, str, str, str, str]:
    floor, ratio = row.figures.get("floor"), row.figures.get("ratio")
    beside = "" if floor is None else f"{floor:,.0f}/s"
    return row.name, _ours(row), beside, "" if ratio is None else f"{ratio:.2f}", bars_of(row)


def _ours(row: Row) -> str:
    figures = row.figures
    if "floor" in figures and "ratio" in figures:
        # What was held against the floor, and no other figure of the row.
        return f"{figures['floor'] * figures['ratio']:,.0f}/s"
    told = [how.format(figures[key]) for key, how in _OURS if key in figures][:1]
    if "p99Ms" in figures:
        told.append(f"p50 {figures['p50Ms']:,.1f}, p99 {figures['p99Ms']:,.1f} ms")
    return ", ".join(told)


def _summary(founds: Sequence[Found]) -> str:
    lines = [HEADINGS, *(line for found in founds for line in summary(found))]
    measured = [f"- {found.bench}: {measured_on(found)}" for found in founds]
    return "\n".join([*table_lines(lines), "", *measured, *_versions(founds), ""])


def _versions(founds: Sequence[Found]) -> list[str]:
    """One line where all are of the same; else one for each set, which says of whom."""
    benches: dict[str, list[str]] = {}
    for found in founds:
        said = ", ".join(f"{name} {number}" for name, number in found.versions.items())
        benches.setdefault(said, []).append(found.bench)
    if len(benches) == 1:
        return [f"- Versions: {said}" for said in benches]
    return [f"- Versions, {', '.join(names)}: {said}" for said, names in benches.items()]


def _costs(founds: Sequence[Found]) -> list[tuple[str, str, str, str]]:
    return [
        (one.panel, one.line, f"{one.size:,}", f"{one.cost:,.3g} {picture.unit_of(one)}")
        for one in picture.points_of(founds)
    ]


def _sizes(drawn: str, sizes: Sequence[Found]) -> str:
    measured = [
        f"- {found.bench}: {measured_on(found)}"
        for found in sizes
        if any(row.points for row in found.rows)
    ]
    table = table_lines([COST_HEADINGS, *_costs(sizes)])
    return "\n".join([f"![Cost against size]({drawn})", "", *table, "", *measured, ""])
