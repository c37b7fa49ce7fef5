"""`shopstream sse-load`: many streams of any server, what came of them, was it right."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from rich.console import Console
from rich.table import Table

from shopstream_stack.errors import StackError
from shopstream_stack.kit.generator import (
    Generator,
    StreamGroup,
    StreamReport,
    StreamSpec,
    generating,
)
from shopstream_stack.kit.target import Target
from shopstream_stack.process import write_atomically

EXIT_FAILED: Final = 1
#: In the URL: a number that differs from group to group.
NUMBER: Final = "{{n}}"
#: Of the time, what passes before streams are cut.
CUT_AFTER: Final = 0.3
#: Query parameters that leave each subject's sequence whole; any other may thin it out.
WHOLE: Final = frozenset({"sellerId", "subject", "lastEventId", "since"})

KitProfile = Literal["plain", "shopstream"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What a person may choose."""

    profile: KitProfile
    connections: int
    seconds: float
    #: New connections a second; 0 = all at once.
    ramp: float
    #: Streams that are reset after a third of the time.
    cut: int
    #: Streams that do not read until the end.
    slow: int
    #: Values for NUMBER, from 0.
    groups: int
    headers: dict[str, str]
    json: Path | None


def load(program: Path, url: str, options: LoadOptions, console: Console) -> int:
    """Hold the streams, tell what came; the exit code is 0 only if nothing was missed.

    Raises StackError.
    """
    target = Target.of(url)
    target.require_listener()
    with generating(program, spec_of(target, options)) as generator:
        opened = generator.opened
        report = opened if opened.misses else _hold(generator, options)
    table = _table(f"{options.connections:,} streams of {url}", opened, report, options)
    console.print(table)
    for fault in report.faults:
        console.print(fault, style="red", markup=False, soft_wrap=True)
    if options.json is not None:
        found = {"url": url, "profile": options.profile, **_plain(report)}
        write_atomically(options.json, json.dumps(found, indent=1) + "\n")
    return EXIT_FAILED if report.misses else 0


def spec_of(target: Target, options: LoadOptions) -> StreamSpec:
    """What the generator is to do. Raises StackError for options that do not fit together."""
    if options.slow + options.cut > options.connections:
        raise StackError("--slow and --cut together may be at most --connections")
    if options.groups > 1 and NUMBER not in target.path:
        raise StackError(f"--groups needs {NUMBER} in the URL, where the number goes")
    groups = [
        StreamGroup(name=str(number), path=target.path.replace(NUMBER, str(number)))
        for number in range(options.groups)
    ]
    return StreamSpec(
        address=target.address,
        secure=target.secure,
        host=target.host,
        headers=options.headers,
        connections=options.connections,
        groups=groups,
        profile=options.profile,
        ramp_per_second=options.ramp,
        slow=options.slow,
        reconnect=True,
        sparse=not target.parameters <= WHOLE,
    )


def _hold(generator: Generator, options: LoadOptions) -> StreamReport:
    generator.begin()
    if options.slow:
        generator.stall()
    if options.cut:
        time.sleep(options.seconds * CUT_AFTER)
        generator.cut(options.cut)
        time.sleep(options.seconds * (1 - CUT_AFTER))
    else:
        time.sleep(options.seconds)
    return generator.look()


def _table(title: str, opened: StreamReport, report: StreamReport, options: LoadOptions) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column()
    for name, value in _rows(opened, report, options):
        table.add_row(name, value)
    return table


def _rows(
    opened: StreamReport, report: StreamReport, options: LoadOptions
) -> list[tuple[str, str]]:
    rate = report.deliveries_per_second
    named = ", ".join(f"{name} {count:,}" for name, count in sorted(report.controls.items()))
    rows = [
        ("opened", f"{opened.open:,} in {opened.wall_seconds:.1f} s"),
        ("refused, closed, reopened", _numbers(report.refused, report.closed, report.reconnected)),
        ("events", _numbers(report.deliveries)),
        ("a second", "none: something was missed" if rate is None else f"{rate:,.0f}"),
        ("MiB", f"{report.bytes / 2**20:,.1f}"),
        ("ids, comments", _numbers(report.ids, report.comments)),
        ("named events", named or "none"),
    ]
    if options.profile == "shopstream":
        steady = report.steady
        times = (steady.p50_ms, steady.p99_ms, steady.p999_ms, steady.max_ms)
        rows.append(("p50, p99, p99.9, max ms", ", ".join(f"{one:.1f}" for one in times)))
        rows.append(("lost, doubled", _numbers(report.lost, report.doubled)))
    if options.cut:
        back = f"{_numbers(options.cut, report.resumed.count)}, {report.resumed.max_ms / 1_000:.2f}"
        rows.append(("cut, back, the last after s", back))
    share = report.processor_seconds / report.wall_seconds if report.wall_seconds else 0.0
    rows.append(("generator, of a core", f"{share:.0%}"))
    rows.append(("verdict", "[bold red]MISSED[/]" if report.misses else "[green]holds[/]"))
    return rows


def _numbers(*numbers: int) -> str:
    return ", ".join(f"{one:,}" for one in numbers)


def _plain(report: StreamReport) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(report)
    return plain
