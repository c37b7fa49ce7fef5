"""What a soak says: rows with their bars, and two pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from matplotlib.figure import Figure

from shopstream_stack.bench.result import Bar, Row
from shopstream_stack.chaos import picture as timeline_picture
from shopstream_stack.whole.growth import SAMPLES_MIN, growth

if TYPE_CHECKING:
    from shopstream_stack.whole.soak import SoakFound, SoakPlan

GROWTH_MAX: Final = 0.05
#: Of the pace that was wanted: else it was no load of 60 %.
REACHED_MIN: Final = 0.95
#: Of 60 % of the maximum, in acknowledged writes. Some steps are fairly refused or only read, and
#: their share is not the same in both phases; with fewer it would not be the load that is said.
ACKNOWLEDGED_MIN: Final = 0.8
TIMELINE: Final = "timeline.png"
MEMORY: Final = "memory.png"
KIB_A_MIB: Final = 1_024


def rows(plan: SoakPlan, found: SoakFound) -> list[Row]:
    """The table: the maximum, the steady load, each process's memory, the end."""
    reached = found.pace_reached / found.pace_wanted if found.pace_wanted else 0.0
    acknowledged = found.reached / found.writes_wanted if found.maximum else 0.0
    bars = (
        Bar("errors", len(found.errors), "==", 0),
        Bar("of the pace wanted", reached, ">=", REACHED_MIN),
        Bar("of the writes wanted", acknowledged, ">=", ACKNOWLEDGED_MIN),
    )
    # Where speed is not judged, an error is still one of ours.
    faults = () if plan.judged else tuple(found.errors)
    return [
        Row("The measured maximum, writes", {"rate": found.maximum}),
        Row(
            f"At 60 % of it, {plan.seconds / 60:.2g} min",
            {"rate": found.reached, "errors": len(found.errors)},
            bars if plan.judged else (),
            faults or (() if found.reached else ("nothing was acknowledged",)),
            "; ".join(found.errors),
        ),
        *(_memory(plan, name, found) for name in sorted(found.memory)),
        _end(found),
    ]


def _memory(plan: SoakPlan, name: str, found: SoakFound) -> Row:
    """A process that was not there all the time was started anew: that is no steady state."""
    every = found.memory[name]
    samples = [one for one in every if one[0] >= plan.warmup_of(name)]
    title = f"Memory of {name}"
    looks = [at for series in found.memory.values() for at, _ in series]
    if plan.judged and (every[0][0], every[-1][0]) != (min(looks), max(looks)):
        there = f"it was there from {every[0][0]:g} to {every[-1][0]:g} s only"
        return Row(title, {}, (), (there,))
    if len(samples) < SAMPLES_MIN:
        faults = (f"only {len(samples)} samples after the warm-up",) if plan.judged else ()
        return Row(title, {"mib": every[-1][1] / KIB_A_MIB}, (), faults)
    seen = growth(samples)
    bars = (Bar("growth", seen.share, "<", GROWTH_MAX),) if plan.judged else ()
    overall = growth(found.memory[name]).share
    figures = {"mib": seen.mib_at_end, "growth": seen.share, "growthOverAll": overall}
    return Row(title, figures, bars)


def _end(found: SoakFound) -> Row:
    faults = list(found.wrong)
    if found.verify_code:
        faults.append(f"verify: exit code {found.verify_code}")
    figures = {} if found.lags_seconds is None else {"seconds": found.lags_seconds}
    bars = (Bar("verify's exit code", found.verify_code, "==", 0),)
    return Row("Then until all lags are 0; then verify", figures, bars, tuple(faults))


def picture(folder: Path, found: SoakFound, title: str) -> None:
    """The timeline as chaos draws it, and the memory of each process."""
    if found.samples:
        timeline_picture.save(folder / TIMELINE, found.samples, [], title)
    figure = Figure(figsize=(14.0, 6.0), layout="constrained")
    axis = figure.subplots()
    for name, samples in sorted(found.memory.items()):
        axis.plot([at for at, _ in samples], [kib / KIB_A_MIB for _, kib in samples], label=name)
    axis.set_title(f"{title}: resident memory, MiB", loc="left")
    axis.set_xlabel("seconds since the steady load began")
    axis.set_ylim(bottom=0)
    if found.memory:
        axis.legend(loc="lower right")
    figure.savefig(folder / MEMORY, dpi=110)
