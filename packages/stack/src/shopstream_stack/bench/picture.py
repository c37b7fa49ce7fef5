"""Cost against size: what one unit of work costs, over how much of it there is."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from shopstream_stack.bench.figures import Found
from shopstream_stack.bench.result import Point

WIDTH_INCHES: Final = 12.0
HEIGHT_INCHES: Final = 8.0
DPI: Final = 90
#: Above and below the lines of a panel: a decade, so that what is level looks level.
_AIR: Final = 2.0
_MARKERS: Final = "osD^vX"


@dataclass(frozen=True, slots=True)
class Panel:
    """One kind of size; every line of it is in its one unit, a ``second`` unit has its own axis."""

    title: str
    size: str
    unit: str
    second: str = ""
    #: The lines that are in the second unit.
    in_second: tuple[str, ...] = ()


MEMORY: Final = "memory a connection"
PANELS: Final[Mapping[str, Panel]] = {
    "connections": Panel(
        "Stream service: one delivery, one connection",
        "connections",
        "µs of CPU a delivery",
        "KiB a connection",
        (MEMORY,),
    ),
    "events": Panel("A backlog, by event", "events in the backlog", "µs of CPU an event"),
    "distinct": Panel(
        "Aggregates, by how many products events are about",
        "distinct products in one backlog",
        "µs of CPU an event",
    ),
    "rows": Panel("The API over a filled table", "products in the table", "p50, ms"),
}


def points_of(founds: Iterable[Found]) -> list[Point]:
    """All that were measured, in the order of the panels; less than a tick is no cost."""
    points = [
        point for found in founds for row in found.rows for point in row.points if point.cost > 0
    ]
    order = list(PANELS)
    return sorted(points, key=lambda one: order.index(one.panel))


def unit_of(point: Point) -> str:
    """Of a point's cost."""
    panel = PANELS[point.panel]
    return panel.second if point.line in panel.in_second else panel.unit


def save(path: Path, points: Sequence[Point]) -> None:
    """A PNG of four panels with logarithmic axes. Raises OSError."""
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    for axis, (name, panel) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        _draw(axis, panel, [point for point in points if point.panel == name])
    path.parent.mkdir(parents=True, exist_ok=True)
    # Nothing in it of the moment or the program: the same points are the same file.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _draw(axis: Axes, panel: Panel, points: Sequence[Point]) -> None:
    axis.set_title(panel.title, loc="left", fontsize=10)
    axis.set_xlabel(panel.size)
    axis.set_ylabel(panel.unit)
    if not points:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "not measured", ha="center", transform=axis.transAxes)
        return
    lines: dict[str, list[Point]] = defaultdict(list)
    for point in sorted(points, key=lambda one: one.size):
        lines[point.line].append(point)
    beside = axis.twinx() if set(lines) & set(panel.in_second) else None
    for number, (name, found) in enumerate(lines.items()):
        on_second = beside is not None and name in panel.in_second
        (beside if beside is not None and on_second else axis).plot(
            [point.size for point in found],
            [point.cost for point in found],
            color=f"C{number}",
            marker=_MARKERS[number % len(_MARKERS)],
            linestyle="--" if on_second else "-",
            label=f"{name} (right)" if on_second else name,
        )
    _scale(axis)
    handles, names = axis.get_legend_handles_labels()
    if beside is not None:
        beside.set_ylabel(panel.second)
        _scale(beside)
        more = beside.get_legend_handles_labels()
        handles, names = [*handles, *more[0]], [*names, *more[1]]
    axis.legend(handles, names, fontsize=8)


def _scale(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(low / _AIR, high * _AIR)
    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_formatter(plain)
        one.set_minor_formatter(NullFormatter())
    axis.grid(which="major", alpha=0.3)
