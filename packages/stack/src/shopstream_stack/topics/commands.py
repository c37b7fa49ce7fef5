"""The commands of `shopstream topics`: arguments in, exit codes out."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from shopstream_stack.context import load_settings, locked_system, out
from shopstream_stack.system import System

#: What the relay and its readers stand on; adopting also moves the sinks.
NEEDED: Final = ("kafka", "postgres")
ADOPT_NEEDS: Final = ("kafka", "postgres", "dynamodb", "minio")

app = typer.Typer(help="Topics made again, topics with more partitions.", no_args_is_help=True)


@app.command("ls")
def ls() -> None:
    """Show each topic beside what the relay uses and topics.toml says; exit 0 if all is well."""
    from shopstream_stack.topics import command  # noqa: PLC0415 - AWS's client only where needed

    settings = load_settings()
    System(settings).require_up(*NEEDED)
    raise typer.Exit(command.ls(settings, out))


@app.command("adopt")
def adopt() -> None:
    """Go on with topics that were deleted and made again; exit 0 if everything goes on."""
    from shopstream_stack.topics import command  # noqa: PLC0415 - as above

    with locked_system(load_settings()) as system:
        system.require_up(*ADOPT_NEEDS)
        code = command.adopt(system, out)
    raise typer.Exit(code)


@app.command("apply")
def apply(
    *,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="A reader's group not to wait for.")
    ] = None,
) -> None:
    """Give topics the partitions that topics.toml says, where those are more."""
    from shopstream_stack.topics import command  # noqa: PLC0415 - as above

    settings = load_settings()
    System(settings).require_up(*NEEDED)
    raise typer.Exit(command.apply(settings, out, without or []))
