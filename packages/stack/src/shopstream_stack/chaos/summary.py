"""Several runs as one: how long each kind of fault took to be over, and what was verified.

Read from the runs' ``report.json`` alone, so that no figure of a page is typed by hand.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from rich.table import Table

from shopstream_stack.chaos import recovery
from shopstream_stack.chaos.schedule import ACTS, LEADER
from shopstream_stack.errors import StackError

REPORT: Final = "report.json"
#: Of what a page has from here.
MARK: Final = "chaos"
#: One measure, whichever process, worker or client it was taken of.
_SAME: Final = (
    (re.compile(r"(api|api-2) serves"), "the API serves"),
    (re.compile(r"(aggregates|recent|archive) stores"), "a sink stores"),
    (re.compile(r"the second's (aggregates|archive) has partitions"), "a second service joins"),
    (re.compile(r"(api|notifications|analytics) says (\w+)"), r"/health says \2"),
)
SERVES, PUBLISHED, STORES = "the API serves", "events are published", "a sink stores"
_ENDS: Final = ("kill", "terminate")
_STREAMS: Final = ("stream-kill", "stream-terminate", "stream-stop")


@dataclass(frozen=True, slots=True)
class Promise:
    """A recovery that issue and README promise: of which kinds' measures (kind, measure), in how
    many seconds. ``of_leader``: only of faults that were to hit whoever published; another relay's
    end is felt by nobody."""

    words: str
    measures: frozenset[tuple[str, str]]
    bar: float
    of_leader: bool = False

    def covers(self, fault: Mapping[str, Any], what: str) -> bool:
        led = fault["planned_target"] == LEADER
        return (fault["kind"], what) in self.measures and (led or not self.of_leader)


PROMISES: Final[Sequence[Promise]] = (
    Promise("API after SIGKILL", frozenset({("kill", SERVES)}), recovery.SERVES_SECONDS_MAX),
    Promise(
        "relay that leads after SIGKILL",
        frozenset({("kill", PUBLISHED)}),
        recovery.PUBLISHES_SECONDS_MAX,
        of_leader=True,
    ),
    Promise(
        "analytics: a worker's or the service's successor takes over",
        frozenset(
            {
                *((f"{who}-{how}", STORES) for who in ("worker", "analytics") for how in _ENDS),
                # Not that it stores: a store was refusing until then, which has a bar of its own.
                ("rebalance", "the first has all partitions"),
            }
        ),
        recovery.STORES_SECONDS_MAX,
    ),
    Promise(
        "streams resumed",
        frozenset(
            {
                (kind, what)
                for kind in _STREAMS
                for what in ("all streams resumed", "events are delivered")
            }
        ),
        recovery.RESUMED_SECONDS_MAX,
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """How often something recovered, in how many seconds; ``never`` counts those that did not."""

    kind: str
    what: str
    seconds: tuple[float, ...]
    never: int
    bar: float

    @property
    def count(self) -> int:
        return len(self.seconds) + self.never

    @property
    def p95(self) -> float | None:
        """By nearest rank; None when one of the slowest 5% never recovered."""
        rank = math.ceil(0.95 * self.count)
        return sorted(self.seconds)[rank - 1] if 1 <= rank <= len(self.seconds) else None

    @property
    def worst(self) -> float | None:
        return None if self.never else max(self.seconds, default=None)

    @property
    def holds(self) -> bool:
        return self.worst is not None and self.worst <= self.bar


@dataclass(frozen=True, slots=True)
class Summary:
    """The reports of some runs, in the order given."""

    reports: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, folders: Iterable[Path]) -> Self:
        """Of folders that runs have left. Raises StackError for one without a report."""
        found = []
        for folder in folders:
            try:
                found.append(json.loads((folder / REPORT).read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise StackError(
                    f"{folder} has no readable {REPORT}: name the folder of a run that ended"
                ) from error
        return cls(found)

    @property
    def holds(self) -> bool:
        """Whether each run does, and each promise that was put to the test."""
        kept = (row.holds for row in self.promised() if row.count)
        return all(report["holds"] for report in self.reports) and all(kept)

    def rows(self) -> list[Row]:
        """A row a kind and measure, kinds by name, measures as they come."""
        times: dict[tuple[str, str], list[float | None]] = defaultdict(list)
        bars: dict[tuple[str, str], float] = {}
        for fault in self._faults():
            for measure in fault["measures"]:
                key = fault["kind"], _named(measure["what"])
                times[key].append(measure["seconds"])
                bars[key] = max(bars.get(key, 0.0), measure["bar"])
        return [
            _row(*key, seconds, bars[key])
            for key, seconds in sorted(times.items(), key=lambda item: item[0][0])
        ]

    def promised(self) -> list[Row]:
        """The recoveries that are promised, each over all faults it is promised for.

        One that no fault put to the test has no times.
        """
        return [
            _row(
                "",
                promise.words,
                [
                    measure["seconds"]
                    for fault in self._faults()
                    for measure in fault["measures"]
                    if promise.covers(fault, _named(measure["what"]))
                ],
                promise.bar,
            )
            for promise in PROMISES
        ]

    def faults(self) -> Counter[str]:
        """How many faults of each kind, and acts of each name, were made."""
        return Counter(fault["kind"] for fault in self._faults())

    def violations(self) -> Counter[str]:
        """What `verify` counted, over all runs and invariants."""
        found: Counter[str] = Counter()
        for report in self.reports:
            for invariant in (report["verify"]["report"] or {}).get("invariants", ()):
                found.update(invariant["violations"])
        return found

    def _faults(self) -> Iterator[Mapping[str, Any]]:
        for report in self.reports:
            yield from report["faults"]


def table(summary: Summary) -> Table:
    """For a terminal."""
    shown = Table(title="Recoveries by kind of fault", title_justify="left")
    for column in ("fault", "recovered when", "times", "p95 s", "max s", "bar s", "verdict"):
        shown.add_column(column, overflow="fold")
    for row in summary.rows():
        verdict = "[green]holds[/]" if row.holds else "[bold red]WRONG[/]"
        shown.add_row(row.kind, row.what, *_figures(row), verdict)
    return shown


def markdown(summary: Summary, about: Mapping[str, str]) -> str:
    """For a page: on what it was measured, the runs, the promises, every kind."""
    lines = [f"- {name}: {value}" for name, value in about.items()]
    lines += ["", *_runs(summary), "", *_verdict(summary), ""]
    lines += _lines(("promised", "times", "p95 s", "max s", "bar s", "verdict"))
    lines += [_line(row.what, *_figures(row), _said(row)) for row in summary.promised()]
    heads = ("fault", "made", "recovered when", "times", "p95 s", "max s", "bar s", "verdict")
    lines += ["", *_lines(heads)]
    counts, before = summary.faults(), ""
    for row in summary.rows():
        same = row.kind == before
        before = row.kind
        head = ("", "") if same else (f"`{row.kind}`", str(counts[row.kind]))
        lines.append(_line(*head, row.what, *_figures(row), _said(row)))
    return "\n".join([*lines, ""])


def as_json(summary: Summary) -> list[dict[str, Any]]:
    """A row a kind and measure, for programs."""
    return [
        {
            "kind": row.kind,
            "what": row.what,
            "times": row.count,
            "p95": row.p95,
            "max": row.worst,
            "bar": row.bar,
            "holds": row.holds,
        }
        for row in summary.rows()
    ]


def _runs(summary: Summary) -> Iterator[str]:
    names = ("acknowledged", "published", "delivered", "connections")
    yield from _lines(
        (
            *("seed", "minutes", "faults", "acts", "writes acknowledged", "events", "deliveries"),
            *("connections", "verdict"),
        )
    )
    for report in summary.reports:
        totals = report["totals"]
        acts = sum(fault["kind"] in ACTS for fault in report["faults"])
        yield _line(
            str(report["seed"]),
            f"{report['seconds'] / 60:g}",
            str(len(report["faults"]) - acts),
            str(acts),
            *(f"{totals.get(name, 0):,}" for name in names),
            "holds" if report["holds"] else "**does not hold**",
        )


def _verdict(summary: Summary) -> Iterator[str]:
    held = sum(report["verify"]["exitCode"] == 0 for report in summary.reports)
    found = ", ".join(f"{count} {what}" for what, count in summary.violations().items())
    yield f"`verify` holds after {held} of {len(summary.reports)} runs: {found}."
    for report in summary.reports:
        for fault in report["faults"]:
            if not fault["holds"]:
                said = "; ".join([*_missed(fault), *fault["wrong"], *fault["notes"]])
                yield f"- seed {report['seed']}: `{fault['kind']}` {fault['target']}: {said}"
        yield from (f"- seed {report['seed']}: {text}" for text in report["wrong"])


def _missed(fault: Mapping[str, Any]) -> Iterator[str]:
    for measure in fault["measures"]:
        if not measure["holds"]:
            seconds = measure["seconds"]
            after = "never" if seconds is None else f"after {seconds:.1f} s"
            yield f"{measure['what']} {after}, not within {measure['bar']:g} s"


def _row(kind: str, what: str, seconds: Sequence[float | None], bar: float) -> Row:
    known = tuple(second for second in seconds if second is not None)
    return Row(kind, what, known, len(seconds) - len(known), bar)


def _named(what: str) -> str:
    for pattern, name in _SAME:
        found = pattern.fullmatch(what)
        if found is not None:
            return found.expand(name)
    return what


def _figures(row: Row) -> tuple[str, str, str, str]:
    none = "never" if row.count else ""
    told = [none if value is None else f"{value:.1f}" for value in (row.p95, row.worst)]
    return str(row.count), told[0], told[1], f"{row.bar:g}"


def _said(row: Row) -> str:
    if not row.count:
        return "not shown"
    return "holds" if row.holds else "**does not hold**"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _lines(headings: Sequence[str]) -> tuple[str, str]:
    return _line(*headings), _line(*("---" for _ in headings))
