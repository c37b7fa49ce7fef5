"""What a run prints and leaves: the table of faults, the picture, the JSON, the verdict."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shopstream_stack.chaos import picture, summary
from shopstream_stack.chaos.recovery import Measure, Recovery
from shopstream_stack.chaos.storm import VERIFY, Outcome, Plan
from shopstream_stack.chaos.summary import REPORT, Summary
from shopstream_stack.process import write_atomically

PICTURE: Final = "timeline.png"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A whole run: what was planned, what was found."""

    plan: Plan
    outcome: Outcome

    @property
    def holds(self) -> bool:
        return (
            self.outcome.verify_code == 0
            and not self.wrong
            and all(found.holds for found in self.outcome.recoveries)
        )

    @property
    def made(self) -> int:
        """How many faults of the schedule."""
        return len(self.plan.schedule) - self.outcome.unmade

    @property
    def wrong(self) -> list[str]:
        """What was found, and what was not done: a run that shows too little does not hold."""
        found, least = list(self.outcome.wrong), self.plan.faults_min
        if self.made < least:
            found.append(f"only {self.made} faults were made, {least} are wanted")
        elif not self.outcome.recoveries:
            found.append("nothing was done to the system")
        return found

    @property
    def title(self) -> str:
        plan = self.plan
        about = f"chaos, seed {plan.seed}, {plan.seconds:g} s"
        return f"{about}, {self.made} faults, {len(plan.acts)} acts"

    def as_json(self) -> Mapping[str, Any]:
        plan, outcome = self.plan, self.outcome
        faults = [found.as_json() for found in outcome.recoveries]
        return {
            "run": plan.run,
            "seed": plan.seed,
            "seconds": plan.seconds,
            "writesPerSecond": plan.writes_per_second,
            "journal": outcome.journal.name,
            "totals": dict(outcome.totals),
            "faults": faults,
            "recoveries": summary.as_json(Summary([{"faults": faults}])),
            "unmade": outcome.unmade,
            "faultsMin": plan.faults_min,
            "wrong": self.wrong,
            "verify": {"exitCode": outcome.verify_code, "report": _read(plan.folder / VERIFY)},
            "holds": self.holds,
            "timeline": [sample.as_json() for sample in outcome.samples],
        }


def show(console: Console, verdict: Verdict) -> None:
    """Write the run's files and print everything."""
    plan, outcome = verdict.plan, verdict.outcome
    if outcome.samples:
        picture.save(plan.folder / PICTURE, outcome.samples, outcome.recoveries, verdict.title)
        columns = min(console.width, 140)
        print_plain(console, picture.on_terminal(outcome.samples, outcome.recoveries, columns))
    write_atomically(plan.folder / REPORT, json.dumps(verdict.as_json(), indent=1) + "\n")
    console.print(faults_table(outcome.recoveries, verdict.title))
    console.print(summary.table(Summary([verdict.as_json()])))
    totals = ", ".join(f"{count} {what}" for what, count in outcome.totals.items())
    print_plain(console, f"Load: {totals}")
    if outcome.unmade:
        print_plain(console, f"The last {outcome.unmade} faults of the schedule found no time.")
    for text in verdict.wrong:
        console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    said = "holds" if outcome.verify_code == 0 else f"exit code {outcome.verify_code}"
    print_plain(console, f"verify: {said}. All files of this run: {plan.folder}")
    if verdict.holds:
        console.print("Everything holds.", style="bold green")
    else:
        console.print("Something is WRONG, see above.", style="bold red")


def faults_table(recoveries: list[Recovery], title: str) -> Table:
    """A row a fault, with how long each recovery took beside its bar."""
    table = Table(title=title, title_justify="left")
    for column in ("#", "at", "fault", "target", "recovered after (bar)", "notes", "verdict"):
        table.add_column(column, overflow="fold")
    for number, found in enumerate(recoveries, start=1):
        table.add_row(
            str(number),
            f"{found.began:.1f}",
            found.fault.kind,
            found.target,
            "\n".join(_measured(measure) for measure in found.measures),
            escape("\n".join([*found.notes, *found.wrong])),
            "[green]holds[/]" if found.holds else "[bold red]WRONG[/]",
        )
    return table


def print_plain(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _measured(measure: Measure) -> str:
    seconds = "never" if measure.seconds is None else f"{measure.seconds:.1f} s"
    colour = "" if measure.holds else "[bold red]"
    return f"{colour}{measure.what}: {seconds} ({measure.bar_seconds:g})"


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None
