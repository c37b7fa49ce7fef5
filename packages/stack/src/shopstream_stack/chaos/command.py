"""`shopstream chaos`: a system of its own, a load, faults, `verify`; nothing stays running."""

import asyncio
import platform
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from shopstream_shared.clock import SystemClock
from shopstream_stack import marks
from shopstream_stack.bench import machine
from shopstream_stack.chaos.place import Place, running
from shopstream_stack.chaos.report import Verdict, show
from shopstream_stack.chaos.schedule import Fault
from shopstream_stack.chaos.storm import Plan, storm
from shopstream_stack.chaos.summary import MARK, Summary, markdown
from shopstream_stack.chaos.summary import table as summary_table
from shopstream_stack.errors import StackError
from shopstream_stack.ports import PortReservations
from shopstream_stack.system import System

EXIT_WRONG: Final = 1
LOGS: Final = "logs"


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that came to its end: its verdict, and where it left everything."""

    holds: bool
    folder: Path


def chaos(
    system: System,
    ports: PortReservations,
    console: Console,
    *,
    seed: int,
    seconds: float,
    writes_per_second: float,
    patience: float,
    faults: tuple[Fault, ...],
    acts: tuple[str, ...],
    every_fault: bool,
    faults_min: int,
) -> Ran:
    """It holds only if `verify` does and every recovery was in time.

    Raises StackError when the system cannot be started or does not stay up.
    """
    # Told to end, it still stops what it has started; a shell's background job ignores SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    clock = SystemClock()
    run = f"chaos-{clock.now():%Y%m%d-%H%M%S-%f}"
    # Beside the system's folder, which is emptied at the end.
    folder = system.settings.data.parent / run
    plan = Plan(
        run=run,
        seed=seed,
        seconds=seconds,
        writes_per_second=writes_per_second,
        patience=patience,
        schedule=faults,
        acts=acts,
        every_fault=every_fault,
        faults_min=faults_min,
        folder=folder,
        clock=clock,
        reporter=system.reporter,
    )
    try:
        with running(system, ports) as place:
            folder.mkdir(parents=True)
            try:
                verdict = _judged(place, plan)
            finally:
                shutil.copytree(place.log_path("api").parent, folder / LOGS, dirs_exist_ok=True)
    except KeyboardInterrupt:
        left = f"logs and journal so far: {folder}" if folder.exists() else "nothing was begun yet"
        console.print(f"Interrupted; {left}", highlight=False, soft_wrap=True)
        raise
    show(console, verdict)
    return Ran(verdict.holds, folder)


def report(
    console: Console, folders: Sequence[Path], page: Path | None, about: Mapping[str, str]
) -> int:
    """Show what these runs came to together, and write it into a page; the exit code.

    Raises StackError when a folder or the page is not what it should be.
    """
    summary = Summary.read(folders)
    console.print(summary_table(summary))
    if page is not None:
        marks.put(page, MARK, markdown(summary, about))
        console.print(f"Written to {page}", highlight=False, soft_wrap=True)
    return 0 if summary.holds else EXIT_WRONG


def measured_on() -> Mapping[str, str]:
    """On what is measured here and now."""
    python = platform.python_version()
    return {"measured": f"{SystemClock().now():%Y-%m-%d}", **machine.machine(), "Python": python}


def _judged(place: Place, plan: Plan) -> Verdict:
    try:
        return Verdict(plan, asyncio.run(storm(place, plan)))
    except ExceptionGroup as group:
        reasons = [f"{type(one).__name__}: {one}" for one in _leaves(group)]
        raise StackError("; ".join(reasons)) from group


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """What is in a group, and in the groups in it."""
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one
