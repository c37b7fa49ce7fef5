"""All benchmarks in one go: one table, one page, and nothing measured twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec
from rich.console import Console

from shopstream_shared.clock import SystemClock, format_time
from shopstream_stack.bench import page
from shopstream_stack.bench.command import EXIT_MISSED
from shopstream_stack.bench.figures import Found, Kept, as_json
from shopstream_stack.bench.machine import commit, machine
from shopstream_stack.bench.names import Form
from shopstream_stack.bench.result import Row
from shopstream_stack.process import write_atomically
from shopstream_stack.settings import StackSettings

PAGE: Final = "docs/benchmarks.md"


class Measures(Protocol):
    """A benchmark, as all that is needed of it here."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    def run(self, settings: StackSettings, form: Form) -> Found:
        """Measure; the file of it is kept. Whatever it raises is its end alone."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    form: Form
    fresh: bool
    write: bool
    json: Path | None


def bench_all(
    benches: Sequence[Measures],
    settings: StackSettings,
    console: Console,
    kept: Kept,
    wish: Wish,
) -> int:
    """Run them in turn. The exit code: 0 only if all hold; one that fails does not end the others.

    With ``wish.write`` the page is made of the newest files of all benchmarks, these and others.
    Raises StackError, before anything is measured, when the page could not take them.
    """
    if wish.write:
        page.require_marks(settings.project / PAGE)
    source, here = commit(settings.project), machine()
    founds: list[Found] = []
    for one in benches:
        known = None if wish.fresh else kept.to_reuse(one.name, wish.form, source, here)
        if known is not None:
            console.print(f"{one.title}: measured already at this commit (--fresh measures again)")
        founds.append(known or _measured(one, settings, console, wish.form))
    page.show_summary(console, founds)
    if wish.json is not None:
        every = [msgspec.Raw(as_json(found)) for found in founds]
        text = msgspec.json.format(msgspec.json.encode({"benches": every}), indent=1).decode()
        write_atomically(wish.json, f"{text}\n")
    if wish.write:
        page.write(settings.project / PAGE, kept.all("full"), newest_sizes(kept))
        console.print(f"Written: {PAGE}")
    return 0 if all(found.holds for found in founds) else EXIT_MISSED


def newest_sizes(kept: Kept) -> list[Found]:
    """Of each benchmark the newer of its full run and its run of sizes alone."""
    newest: dict[str, Found] = {}
    for found in sorted(kept.all("full", "sizes"), key=lambda one: one.started_at):
        newest[found.bench] = found
    return list(newest.values())


def _measured(one: Measures, settings: StackSettings, console: Console, form: Form) -> Found:
    try:
        return one.run(settings, form)
    except SystemError as error:
        # An interrupt inside a call-back of Kafka's client comes out as this.
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        console.print_exception()
        return _failed(one, settings, form, error)
    except Exception as error:  # noqa: BLE001 - whatever it was: the others are measured yet
        console.print_exception()
        return _failed(one, settings, form, error)


def _failed(one: Measures, settings: StackSettings, form: Form, error: Exception) -> Found:
    """In the table, but no file: it is measured again the next time."""
    fault = f"{type(error).__name__}: {error}"
    return Found(
        bench=one.name,
        title=one.title,
        form=form,
        commit=commit(settings.project),
        started_at=format_time(SystemClock().now()),
        seconds=0.0,
        machine=machine(),
        versions={},
        notes=[],
        rows=[Row(one.title, {}, (), (fault,))],
    )
