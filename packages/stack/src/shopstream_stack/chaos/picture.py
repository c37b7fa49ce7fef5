"""The timeline as a picture, once for a file and once for the terminal: same panels, same data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import plotext
from matplotlib.figure import Figure

from shopstream_stack.chaos.recovery import Recovery
from shopstream_stack.chaos.timeline import Sample

TERMINAL_ROWS: Final = 44
WIDTH_INCHES: Final = 14.0
HEIGHT_INCHES: Final = 9.0


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity over time; None where it is not known."""

    title: str
    value: Callable[[Sample], float | None]


PANELS: Final = (
    Panel("writes acknowledged a second", lambda sample: sample.acknowledged),
    Panel("lag: slowest event from commit to log, seconds", lambda sample: sample.lag_seconds),
    Panel("rows waiting in the outbox", lambda sample: sample.waiting),
    Panel("deliveries to SSE clients a second", lambda sample: sample.delivered),
)


def save(path: Path, samples: Sequence[Sample], recoveries: Sequence[Recovery], title: str) -> None:
    """A PNG: the panels below each other, each fault as a band with its name."""
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(len(PANELS), 1, sharex=True)
    for axis, panel in zip(axes, PANELS, strict=True):
        times, values = _points(samples, panel)
        axis.plot(times, values, linewidth=1)
        axis.set_title(panel.title, loc="left", fontsize=9)
        axis.set_ylim(bottom=0)
        for found in recoveries:
            axis.axvspan(
                found.began,
                found.ended,
                alpha=0.15,
                color="tab:green" if found.holds else "tab:red",
            )
    for number, found in enumerate(recoveries, start=1):
        axes[0].annotate(
            f"{number} {found.fault.kind} {found.target}",
            # In the axis' own height, below its upper edge.
            xy=(found.began, 0.97),
            xycoords=("data", "axes fraction"),
            rotation=90,
            fontsize=7,
            va="top",
        )
    axes[-1].set_xlabel("seconds since the load began")
    figure.savefig(path, dpi=110)


def on_terminal(samples: Sequence[Sample], recoveries: Sequence[Recovery], columns: int) -> str:
    """The same in characters, without colours; a fault is a vertical line at its beginning."""
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.limit_size(False, False)
    plotext.plot_size(columns, TERMINAL_ROWS)
    plotext.subplots(len(PANELS), 1)
    for row, panel in enumerate(PANELS, start=1):
        plotext.subplot(row, 1)
        plotext.title(panel.title)
        times, values = _points(samples, panel)
        plotext.plot(times, values, marker="braille")
        for found in recoveries:
            plotext.vline(found.began)
    return str(plotext.uncolorize(plotext.build()))


def _points(samples: Sequence[Sample], panel: Panel) -> tuple[list[float], list[float]]:
    known = [(sample.at, value) for sample in samples if (value := panel.value(sample)) is not None]
    return [at for at, _ in known], [value for _, value in known]
