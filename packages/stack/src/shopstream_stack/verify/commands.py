"""`shopstream verify` as a command line: arguments in, an exit code out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from shopstream_stack.context import load_settings, out
from shopstream_stack.system import System

NEEDED: Final = ("kafka", "postgres", "dynamodb", "minio")


def register(app: typer.Typer) -> None:
    """Make it a command of this application."""
    app.command("verify")(verify)


def verify(
    *,
    journal: Annotated[
        list[Path] | None,
        typer.Option("--journal", help="A journal, or a folder of them; may be repeated."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
) -> None:
    """Prove that nothing was lost, doubled, reordered or made up; exit 0 if it holds."""
    from shopstream_stack.verify import command  # noqa: PLC0415 - its clients are slow to load

    settings = load_settings()
    System(settings).require_up(*NEEDED)
    raise typer.Exit(command.run(settings, out, journal or (), json))
