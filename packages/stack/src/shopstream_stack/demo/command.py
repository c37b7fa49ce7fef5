"""`shopstream demo`: start what is not running, demonstrate, print the table."""

import asyncio
import shutil
import sys
from collections.abc import Callable
from typing import Final

from rich.console import Console

from shopstream_shared.clock import SystemClock
from shopstream_stack.console import reporting
from shopstream_stack.demo.report import show
from shopstream_stack.demo.run import Outcome, Plan, Plant, demonstrate
from shopstream_stack.demo.target import Target
from shopstream_stack.settings import StackSettings

EXIT_WRONG: Final = 1


def demo(settings: StackSettings, console: Console, up: Callable[[], None]) -> int:
    """Bring everything up, run once, leave it running. The exit code: 0 only if all rows hold."""
    up()
    return run_once(Target.local(settings), settings, console)


def run_once(
    target: Target, settings: StackSettings, console: Console, plant: Plant | None = None
) -> int:
    """One run against a system that is up; prints the table and the pages to open."""
    clock = SystemClock()
    run = f"demo-{clock.now():%Y%m%d-%H%M%S-%f}"
    with reporting(console) as reporter:
        plan = Plan(
            target=target,
            run=run,
            journals=settings.data / "journal",
            clock=clock,
            reporter=reporter,
            curl=shutil.which("curl"),
            plant=plant,
        )
        try:
            outcome = asyncio.run(demonstrate(plan))
        except Exception as error:  # noqa: BLE001 - whatever broke the run is the verdict
            _print_failure(console, error)
            return EXIT_WRONG
    show(console, outcome.rows, outcome.latency)
    _print_end(console, target, outcome)
    return 0 if outcome.holds else EXIT_WRONG


def _print_failure(console: Console, error: BaseException) -> None:
    """The innermost reasons, a line each, without a traceback."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            _print_failure(console, one)
        return
    text = f"The demo could not go on: {type(error).__name__}: {error}"
    console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def _print_end(console: Console, target: Target, outcome: Outcome) -> None:
    for text in outcome.late:
        console.print(f"Not in time: {text}", style="red", markup=False)
    verdict = "Everything holds." if outcome.holds else "Something is WRONG, see above."
    console.print(verdict, style="bold green" if outcome.holds else "bold red")
    console.print(f"Journal: {outcome.journal}", highlight=False, soft_wrap=True)
    proof = f"Prove it:   make verify JOURNAL={outcome.journal.parent}"
    console.print(proof, highlight=False, soft_wrap=True)
    for name, address in (
        ("The page", target.web),
        ("API", f"{target.api}/docs"),
        ("Stream", f"{target.stream}/events/stream"),
        ("Aggregates", f"{target.analytics}/aggregates/event-types"),
    ):
        console.print(f"{name:<11} {address}", highlight=False, soft_wrap=True)
    sys.stdout.flush()
