"""The benchmarks as commands of `shopstream`: arguments in, an exit code out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from shopstream_stack.context import load_settings, locked_system, out
from shopstream_stack.ports import reserved_ports

Quick = Annotated[bool, typer.Option("--quick", help="Short; judges correctness only, no speed.")]
Figures = Annotated[Path | None, typer.Option("--json", help="Write the figures here.")]
Table = Annotated[Path | None, typer.Option("--markdown", help="Write the table here.")]


def register(app: typer.Typer) -> None:
    """Make them commands of this application."""
    app.command("bench-api")(bench_api)
    app.command("bench-relay")(bench_relay)
    app.command("bench-sse")(bench_sse)
    app.command("bench-analytics")(bench_analytics)


def bench_api(
    *,
    quick: Quick = False,
    json: Figures = None,
    markdown: Table = None,
) -> None:
    """Measure the API against pgbench on a system of its own; exit 0 if every bar is reached."""
    _bench("bench_api", quick=quick, json=json, markdown=markdown)


def bench_relay(
    *,
    quick: Quick = False,
    json: Figures = None,
    markdown: Table = None,
) -> None:
    """Measure the relay against a loop without transactions; exit 0 if every bar is reached."""
    _bench("bench_relay", quick=quick, json=json, markdown=markdown)


def bench_sse(
    *,
    quick: Quick = False,
    json: Figures = None,
    markdown: Table = None,
) -> None:
    """Measure the event stream beside a stock server; exit 0 if every bar is reached."""
    _bench("bench_sse", quick=quick, json=json, markdown=markdown)


def bench_analytics(
    *,
    quick: Quick = False,
    json: Figures = None,
    markdown: Table = None,
) -> None:
    """Measure the analytics workers beside their floors; exit 0 if every bar is reached."""
    _bench("bench_analytics", quick=quick, json=json, markdown=markdown)


def _bench(
    name: Literal["bench_api", "bench_relay", "bench_sse", "bench_analytics"],
    *,
    quick: bool,
    json: Path | None,
    markdown: Path | None,
) -> None:
    from shopstream_stack.bench import command, place  # noqa: PLC0415 - Kafka client only if needed

    settings = load_settings()
    run = {
        "bench_api": command.bench_api,
        "bench_relay": command.bench_relay,
        "bench_sse": command.bench_sse,
        "bench_analytics": command.bench_analytics,
    }[name]
    # The relay's own part, and the stream's, are small beside the broker's: they wait until that
    # is at its best.
    quick_java = quick or name == "bench_api"
    with (
        reserved_ports() as ports,
        locked_system(place.bench_settings(settings, ports, quick_java=quick_java)) as system,
    ):
        code = run(system, ports, out, command.Output(json, markdown), quick=quick)
    raise typer.Exit(code)
