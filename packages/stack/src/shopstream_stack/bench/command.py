"""The benchmarks: start a system of its own, measure, judge, leave nothing behind."""

import json
import os
import platform
import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import psutil
from rich.console import Console

from shopstream_shared.clock import SystemClock, format_time
from shopstream_stack.bench import report
from shopstream_stack.bench.analytics.bench import Bench
from shopstream_stack.bench.analytics.place import AnalyticsPlace, running_analytics
from shopstream_stack.bench.analytics.plan import ANALYTICS_FULL, ANALYTICS_QUICK
from shopstream_stack.bench.analytics.rows import measure_analytics
from shopstream_stack.bench.catalog import (
    fill_catalog,
    measure_pages,
    measure_reads,
    measure_search,
)
from shopstream_stack.bench.creates import measure_creates
from shopstream_stack.bench.imports import measure_imports
from shopstream_stack.bench.orders import measure_orders
from shopstream_stack.bench.place import Place, running
from shopstream_stack.bench.plan import FULL, QUICK, RELAY_FULL, RELAY_QUICK, Plan
from shopstream_stack.bench.relay import measure_relay
from shopstream_stack.bench.result import Results
from shopstream_stack.bench.stream.place import StreamPlace, running_streams
from shopstream_stack.bench.stream.plan import STREAM_FULL, STREAM_QUICK
from shopstream_stack.bench.stream.rows import StreamBench
from shopstream_stack.ports import PortReservations
from shopstream_stack.process import write_atomically
from shopstream_stack.system import System

EXIT_MISSED: Final = 1


@dataclass(frozen=True, slots=True)
class Output:
    """Where the figures go besides the console."""

    json: Path | None
    markdown: Path | None


def bench_api(
    system: System, ports: PortReservations, console: Console, output: Output, *, quick: bool
) -> int:
    """The exit code: 0 only if nothing is wrong and, in the full form, every bar is reached."""
    plan = QUICK if quick else FULL
    bench = Benchmark(
        "bench-api", "The API against its floor", partial(measure, plan=plan), running
    )
    return bench.run(system, ports, console, output, judged=plan.judged)


def bench_relay(
    system: System, ports: PortReservations, console: Console, output: Output, *, quick: bool
) -> int:
    """The exit code, as of `bench_api`."""
    plan = RELAY_QUICK if quick else RELAY_FULL
    bench = Benchmark(
        "bench-relay", "The relay against its floor", partial(measure_relay, plan=plan), running
    )
    return bench.run(system, ports, console, output, judged=plan.judged)


def bench_sse(
    system: System, ports: PortReservations, console: Console, output: Output, *, quick: bool
) -> int:
    """The exit code, as of `bench_api`."""
    plan = STREAM_QUICK if quick else STREAM_FULL

    def measure_streams(place: StreamPlace, results: Results) -> None:
        StreamBench(place, ports, plan, results).run()

    bench = Benchmark("bench-sse", "The event stream", measure_streams, running_streams)
    return bench.run(system, ports, console, output, judged=plan.judged)


def bench_analytics(
    system: System, ports: PortReservations, console: Console, output: Output, *, quick: bool
) -> int:
    """The exit code, as of `bench_api`."""
    plan = ANALYTICS_QUICK if quick else ANALYTICS_FULL

    def measure_workers(place: AnalyticsPlace, results: Results) -> None:
        measure_analytics(Bench(place, ports, plan, results))

    bench = Benchmark(
        "bench-analytics", "The analytics workers", measure_workers, running_analytics
    )
    return bench.run(system, ports, console, output, judged=plan.judged)


class AnyPlace(Protocol):
    """What is measured: it tells what else must be known of the figures."""

    def about(self) -> Mapping[str, str]: ...


P = TypeVar("P", bound=AnyPlace)


@dataclass(frozen=True, slots=True)
class Benchmark(Generic[P]):
    """A command that measures, and the system that it starts for that."""

    command: str
    title: str
    measure: Callable[[P, Results], None]
    running: Callable[[System, PortReservations], AbstractContextManager[P]]

    def run(
        self,
        system: System,
        ports: PortReservations,
        console: Console,
        output: Output,
        *,
        judged: bool,
    ) -> int:
        """Measure on a system that is started and ended here, and tell."""
        # Told to end, it still stops what it has started.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        results = Results()
        with self.running(system, ports) as place:
            about = _about(place)
            results.notes.append("Measured on " + ", ".join(f"{k} {v}" for k, v in about.items()))
            self.measure(place, results)
        report.show(console, self.title, results, judged=judged)
        if output.json is not None:
            found = report.as_json(results, judged=judged, about=about)
            write_atomically(output.json, json.dumps(found, indent=1) + "\n")
        if output.markdown is not None:
            report.put_markdown(output.markdown, self.command, results, judged=judged)
        return 0 if report.holds(results, judged=judged) else EXIT_MISSED


def measure(place: Place, results: Results, plan: Plan) -> None:
    """All measurements in turn, writes and reads each on a database of their own."""
    place.use("writes")
    measure_creates(place, plan, results)
    measure_orders(place, plan, results)
    measure_imports(place, plan, results)
    place.use("catalog")
    last_page = fill_catalog(place, plan)
    measure_reads(place, plan, results)
    measure_pages(place, plan, results, last_page)
    measure_search(place, plan, results)


def _about(place: AnyPlace) -> dict[str, Any]:
    """On what the figures were measured."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "startedAt": format_time(SystemClock().now()),
        "processors": os.cpu_count(),
        "memoryGiB": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "loadAverage": os.getloadavg()[0],
        "python": platform.python_version(),
        **place.about(),
    }
