"""`shopstream bench-api`: start a system of its own, measure, judge, leave nothing behind."""

import json
import os
import platform
import signal
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console

from shopstream_shared.clock import SystemClock, format_time
from shopstream_stack.bench import report
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
from shopstream_stack.bench.plan import FULL, QUICK, Plan
from shopstream_stack.bench.result import Results
from shopstream_stack.ports import PortReservations
from shopstream_stack.process import write_atomically
from shopstream_stack.system import System

EXIT_MISSED: Final = 1


def bench_api(
    system: System,
    ports: PortReservations,
    console: Console,
    *,
    quick: bool,
    json_path: Path | None,
    markdown_path: Path | None,
) -> int:
    """The exit code: 0 only if nothing is wrong and, in the full form, every bar is reached."""
    # Told to end, it still stops what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan, results = QUICK if quick else FULL, Results()
    with running(system, ports) as place:
        about = _about(place)
        results.notes.append("Measured on " + ", ".join(f"{k} {v}" for k, v in about.items()))
        measure(place, plan, results)
    report.show(console, results, judged=plan.judged)
    if json_path is not None:
        found = report.as_json(results, judged=plan.judged, about=about)
        write_atomically(json_path, json.dumps(found, indent=1) + "\n")
    if markdown_path is not None:
        report.put_markdown(markdown_path, results, judged=plan.judged)
    return 0 if report.holds(results, judged=plan.judged) else EXIT_MISSED


def measure(place: Place, plan: Plan, results: Results) -> None:
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


def _about(place: Place) -> dict[str, Any]:
    """On what the figures were measured."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "startedAt": format_time(SystemClock().now()),
        "processors": os.cpu_count(),
        "memoryGiB": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "postgresql": place.version(),
    }
