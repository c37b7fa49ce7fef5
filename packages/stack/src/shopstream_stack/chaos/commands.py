"""`shopstream chaos` as a command line: arguments in, an exit code out."""

from __future__ import annotations

from typing import Annotated

import typer

from shopstream_stack.context import EXIT_USAGE, complain, load_settings, locked_system, out
from shopstream_stack.ports import reserved_ports


def register(app: typer.Typer) -> None:
    """Make it a command of this application."""
    app.command("chaos")(chaos)


def chaos(
    *,
    minutes: Annotated[float, typer.Option(help="How long the load lasts.", min=0.1)] = 10.0,
    seed: Annotated[int, typer.Option(help="Same seed, same schedule of faults.")] = 1,
    faults: Annotated[
        str, typer.Option(help="Kinds, separated by commas; all of them without.")
    ] = "",
    rate: Annotated[float, typer.Option(help="Writes a second.", min=0.1, max=1_000)] = 30.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A fixed schedule of one fault of each family.")
    ] = False,
) -> None:
    """Kill, stop, cut off under load, on a system of its own; exit 0 if `verify` holds after."""
    from shopstream_stack.chaos import command, place, schedule  # noqa: PLC0415 - its plots are slow to load

    settings = load_settings()
    kinds = [name.strip() for name in faults.split(",") if name.strip()] or list(schedule.FAULTS)
    try:
        planned = schedule.QUICK if quick else schedule.schedule(seed, minutes, kinds)
    except schedule.UnknownFault as error:
        complain(error)
        raise typer.Exit(EXIT_USAGE) from None
    with (
        reserved_ports() as ports,
        locked_system(place.chaos_settings(settings, ports)) as system,
    ):
        code = command.chaos(
            system,
            ports,
            out,
            seed=seed,
            seconds=schedule.QUICK_SECONDS if quick else minutes * 60,
            writes_per_second=rate,
            patience=schedule.QUICK_PATIENCE if quick else 1.0,
            faults=planned,
            every_fault=quick,
        )
    raise typer.Exit(code)
