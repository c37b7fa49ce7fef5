"""A benchmark: starts a system of its own, measures, tells, leaves nothing behind."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from rich.console import Console

from shopstream_shared.clock import SystemClock, format_time
from shopstream_stack.bench import report
from shopstream_stack.bench.figures import FOLDER, Found, Kept, as_json
from shopstream_stack.bench.machine import busy_percent, commit, machine, versions
from shopstream_stack.bench.names import Form
from shopstream_stack.bench.place import bench_settings
from shopstream_stack.bench.result import Results
from shopstream_stack.context import locked_system
from shopstream_stack.ports import PortReservations, reserved_ports
from shopstream_stack.process import write_atomically
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System

EXIT_MISSED: Final = 1


class AnyPlace(Protocol):
    """What is measured: it tells what else must be known of the figures."""

    def about(self) -> Mapping[str, str]: ...


class SettingsOf(Protocol):
    """Settings of a system beside the one of ``settings``, on ports of its own."""

    def __call__(
        self, settings: StackSettings, ports: PortReservations, /, *, quick_java: bool
    ) -> StackSettings: ...


P = TypeVar("P", bound=AnyPlace)


@dataclass(frozen=True, slots=True)
class Benchmark(Generic[P]):
    """What is measured, and the system that is started for that."""

    name: str
    title: str
    measure: Callable[[P, PortReservations, Results, Form], None]
    running: Callable[[System, PortReservations], AbstractContextManager[P]]
    #: The broker's code is compiled in seconds and less well: where it is not what is measured.
    quick_java: bool = False
    #: Of the system, from the caller's.
    settings_of: SettingsOf = bench_settings

    def run(self, settings: StackSettings, form: Form) -> Found:
        """Measure on a system that is started and ended here; the file of it is kept.

        Raises StackError, and whatever else ends a measurement.
        """
        results, began = Results(), time.monotonic()
        started_at = format_time(SystemClock().now())
        here, busy, source = machine(), busy_percent(), commit(settings.project)
        with self._place(settings, form) as (place, ports):
            here |= place.about()
            self.measure(place, ports, results, form)
        found = Found(
            bench=self.name,
            title=self.title,
            form=form,
            commit=source,
            started_at=started_at,
            seconds=time.monotonic() - began,
            machine=here,
            busy_percent=busy,
            versions=versions(),
            notes=results.notes,
            rows=results.rows,
        )
        kept_of(settings).put(found)
        return found

    @contextmanager
    def _place(self, settings: StackSettings, form: Form) -> Iterator[tuple[P, PortReservations]]:
        quick_java = self.quick_java or form == "quick"
        # Told to end, it still stops what it has started.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with (
                reserved_ports() as ports,
                locked_system(self.settings_of(settings, ports, quick_java=quick_java)) as system,
                self.running(system, ports) as place,
            ):
                yield place, ports
        finally:
            signal.signal(signal.SIGTERM, before)


def kept_of(settings: StackSettings) -> Kept:
    """Where the files of runs are."""
    return Kept(settings.data / FOLDER)


def bench(
    benchmark: Benchmark[P],
    settings: StackSettings,
    console: Console,
    form: Form,
    *,
    json: Path | None,
    markdown: Path | None,
) -> int:
    """One of them. The exit code: 0 only if nothing is wrong and, in full, every bar is reached."""
    found = benchmark.run(settings, form)
    report.show(console, found)
    if json is not None:
        write_atomically(json, as_json(found).decode())
    if markdown is not None:
        report.put_table(markdown, found)
    return 0 if found.holds else EXIT_MISSED
