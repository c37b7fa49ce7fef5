"""What loads a whole system, as commands of `shopstream`: arguments in, an exit code out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shopstream_stack.bench.commands import Figures, Quick, Table
from shopstream_stack.bench.names import Form
from shopstream_stack.context import EXIT_USAGE, err, load_settings, out

if TYPE_CHECKING:
    from pathlib import Path


def register(app: typer.Typer) -> None:
    """Make them commands of this application."""
    app.command("load-gate")(load_gate)
    app.command("soak")(soak)


def load_gate(
    *,
    minutes: Annotated[float, typer.Option(help="Of the whole profile.", min=0.1)] = 16.0,
    users: Annotated[int, typer.Option(help="At its height.", min=2, max=9_999)] = 200,
    streams: Annotated[int, typer.Option(help="Open beside it.", min=1, max=50_000)] = 10_000,
    pause: Annotated[
        float, typer.Option(help="Seconds between a user's requests.", min=0.0, max=60.0)
    ] = 1.0,
    quick: Quick = False,
    json: Figures = None,
    markdown: Table = None,
) -> None:
    """Load a system of its own with k6 and streams; exit 0 if all bars and `verify` hold.

    With less than the promised users, minutes and streams, only `verify` and errors are judged.
    """
    from shopstream_stack.bench import command as bench  # noqa: PLC0415 - Kafka client only if needed
    from shopstream_stack.whole import command, gate  # noqa: PLC0415 - as above

    plan = gate.gate_plan(users=users, seconds=minutes * 60, pause_seconds=pause, streams=streams)
    _only_promised(markdown, judged=plan.judged and not quick)
    form: Form = "quick" if quick else "full"
    gated = command.load_gate(plan)
    raise typer.Exit(bench.bench(gated, load_settings(), out, form, json=json, markdown=markdown))


def soak(
    *,
    minutes: Annotated[float, typer.Option(help="At the steady rate.", min=0.1)] = 30.0,
    quick: Quick = False,
    json: Figures = None,
    markdown: Table = None,
) -> None:
    """Hold 60 % of the measured maximum on a system of its own; exit 0 if it stays as it was."""
    from shopstream_stack.bench import command as bench  # noqa: PLC0415 - Kafka client only if needed
    from shopstream_stack.whole import command  # noqa: PLC0415 - as above
    from shopstream_stack.whole.soak import soak_plan  # noqa: PLC0415 - as above

    plan = soak_plan(minutes)
    _only_promised(markdown, judged=plan.judged and not quick)
    form: Form = "quick" if quick else "full"
    soaked = command.soak(plan)
    raise typer.Exit(bench.bench(soaked, load_settings(), out, form, json=json, markdown=markdown))


def _only_promised(markdown: Path | None, *, judged: bool) -> None:
    """A page's table is of the promised size; one of a lighter load would stand for it."""
    if markdown is not None and not judged:
        err.print(
            "--markdown: this run is shorter or lighter than what is promised, so no bar is "
            "judged; leave out --markdown, or --quick and the sizes",
            style="red",
            markup=False,
        )
        raise typer.Exit(EXIT_USAGE)
