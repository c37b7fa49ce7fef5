"""The commands of `shopstream sinks`: arguments in, exit codes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from shopstream_stack.context import load_settings, locked_system, out
from shopstream_stack.system import System

if TYPE_CHECKING:
    from shopstream_stack.demo.target import Target

NEEDED: Final = ("kafka", "dynamodb", "minio")

app = typer.Typer(
    help="Where the analytics sinks stand, and how one goes on.", no_args_is_help=True
)

Sink = Annotated[
    Literal["aggregates", "recent", "archive"], typer.Argument(help="Which of the sinks.")
]


@app.command("ls")
def ls() -> None:
    """Show each sink's checkpoints beside the log; exit 0 if log and stores hold what is needed."""
    from shopstream_stack import sinks  # noqa: PLC0415 - AWS's client only where needed
    from shopstream_stack.demo.target import Target  # noqa: PLC0415 - as above

    settings = load_settings()
    # A store that is away is what this shows.
    System(settings).require_up("kafka")
    raise typer.Exit(sinks.ls(Target.local(settings), out))


@app.command("skip")
def skip(sink: Sink) -> None:
    """Let a sink that the log has left behind go on at the log's first record."""
    from shopstream_stack import sinks  # noqa: PLC0415 - AWS's client only where needed

    with _without_analytics() as target:
        sinks.skip(target, sink, out)


@app.command("restart")
def restart(sink: Sink) -> None:
    """Let a sink whose table is gone begin again at the log's first record."""
    from shopstream_stack import sinks  # noqa: PLC0415 - AWS's client only where needed

    with _without_analytics() as target:
        sinks.restart(target, sink, out)


@contextmanager
def _without_analytics() -> Iterator[Target]:
    """While the analytics service is stopped, where this stack runs it; then it starts again."""
    from shopstream_stack.demo.target import Target  # noqa: PLC0415 - AWS's client only where needed

    settings = load_settings()
    with locked_system(settings) as system:
        system.require_up(*NEEDED)
        living = system.runner.living("analytics") is not None
        if living:
            system.stop("analytics")
        try:
            yield Target.local(settings)
        finally:
            if living:
                system.start("analytics")
            else:
                out.print("Restart analytics, where it runs: it looks at its checkpoints at start.")
