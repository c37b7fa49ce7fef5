"""Progress for people: a spinner on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

# Without a terminal a long step says that it is still at work this often.
STILL_AT_WORK_SECONDS: Final = 30.0
PIPE_WIDTH: Final = 160


def standard_output() -> Console:
    """Where results are printed. A pipe has no width; rows that wrap could not be read by line."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


class Reporter(Protocol):
    """Told what is under way; steps may overlap in time and come from several threads."""

    def say(self, text: str) -> None:
        """Say one finished thing."""

    def step(self, text: str) -> AbstractContextManager[None]:
        """Show `text` as under way for the length of the block."""

    def bar(self, text: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Such a step that is told how far it has come: call with how many more are done."""


class Silent:
    """Says nothing: for tests and for calls from other programs."""

    def say(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show nothing."""
        yield

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show nothing."""
        yield lambda more: None


class Lines:
    """A line when a step begins, ends, and now and then between: for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print a line at once and one at the end with the seconds it took."""
        end = "failed after "
        began = time.monotonic()
        self.say(f"{text} …")
        done = threading.Event()
        reminder = threading.Thread(target=self._remind, args=(text, began, done), daemon=True)
        reminder.start()
        try:
            yield
            end = ""
        except (KeyboardInterrupt, CancelledError):
            # Ctrl-C reaches what is awaited as a cancellation.
            end = "interrupted after "
            raise
        finally:
            done.set()
            reminder.join()
            self.say(f"{text}: {end}{time.monotonic() - began:.1f} s")

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """The same two lines, with how many there are."""
        with self.step(f"{text}, {total:,}"):
            yield lambda more: None

    def _remind(self, text: str, began: float, done: threading.Event) -> None:
        while not done.wait(STILL_AT_WORK_SECONDS):
            self.say(f"{text} … still at work, {time.monotonic() - began:.0f} s")


class Spinners:
    """A spinner with its seconds for each step under way, kept as a tick when it is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def say(self, text: str) -> None:
        """Print one line above the spinners."""
        self._progress.console.print(text, highlight=False)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show a spinner for the length of the block."""
        with self._shown(text, total=1, bar=False):
            yield

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar for the length of the block."""
        with self._shown(text, total=max(total, 1), bar=True) as task:
            yield lambda more: self._progress.advance(task, more)

    @contextmanager
    def _shown(self, text: str, *, total: int, bar: bool) -> Iterator[TaskID]:
        task = self._progress.add_task(text, total=total, bar=bar)
        try:
            yield task
        except BaseException:
            self._progress.update(task, description=f"[red]{text}")
            self._progress.stop_task(task)
            raise
        self._progress.update(task, completed=total)


class _Bar(ProgressColumn):
    """A bar for what knows its length, and nothing for the other steps."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = BarColumn()

    def render(self, task: Task) -> RenderableType:
        return self._bar.render(task) if task.fields["bar"] else Text()


@contextmanager
def reporting(console: Console) -> Iterator[Reporter]:
    """The reporter that fits `console`."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}"),
        _Bar(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield Spinners(progress)
