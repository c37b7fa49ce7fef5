"""`shopstream chaos` and what is made of its runs: arguments in, exit codes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from shopstream_stack.context import EXIT_USAGE, complain, load_settings, locked_system, out
from shopstream_stack.ports import reserved_ports

if TYPE_CHECKING:
    from shopstream_stack.chaos.command import Ran

EXIT_WRONG: Final = 1

Minutes = Annotated[float, typer.Option(help="How long the load lasts.", min=0.1)]
Rate = Annotated[float, typer.Option(help="Writes a second.", min=0.1, max=1_000)]
Page = Annotated[
    Path | None, typer.Option("--markdown", help="Write the tables between this page's marks.")
]


def register(app: typer.Typer) -> None:
    """Make them commands of this application."""
    app.command("chaos")(chaos)
    app.command("chaos-report")(chaos_report)
    app.command("reliability")(reliability)


def chaos(
    *,
    minutes: Minutes = 10.0,
    seed: Annotated[int, typer.Option(help="Same seed, same schedule of faults.")] = 1,
    faults: Annotated[
        str, typer.Option(help="Kinds, separated by commas; all of them without.")
    ] = "",
    acts: Annotated[
        str | None,
        typer.Option(help="Of expand, recreate, retention; all of them unless faults are named."),
    ] = None,
    rate: Rate = 30.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A fixed schedule of one fault of each family.")
    ] = False,
) -> None:
    """Kill, stop, cut off under load, on a system of its own; exit 0 if `verify` holds after."""
    every_act = acts is None and not quick and not faults
    ran = _run(
        minutes=minutes,
        seed=seed,
        kinds=_names(faults),
        acts=None if every_act else _names(acts or ""),
        rate=rate,
        quick=quick,
    )
    raise typer.Exit(0 if ran.holds else EXIT_WRONG)


def chaos_report(
    folders: Annotated[list[Path], typer.Argument(help="What runs have left.")],
    *,
    markdown: Page = None,
) -> None:
    """Show the recoveries of several runs as one table; exit 0 if all the runs held."""
    from shopstream_stack.chaos import command  # noqa: PLC0415 - its plots are slow to load

    commands = f"`shopstream chaos-report {' '.join(folder.name for folder in folders)}`"
    about = {**command.measured_on(), "command": commands}
    raise typer.Exit(command.report(out, folders, markdown, about))


def reliability(
    *,
    minutes: Minutes = 10.0,
    seeds: Annotated[str, typer.Option(help="One run each, separated by commas.")] = "1,2,3",
    rate: Rate = 30.0,
    markdown: Page = None,
) -> None:
    """Run all of chaos once a seed, then report on the runs together; exit 0 if all held.

    A run that cannot start or does not stay up ends no other.
    """
    from shopstream_stack.chaos import command  # noqa: PLC0415 - its plots are slow to load

    try:
        numbers = [int(seed) for seed in _names(seeds)]
    except ValueError:
        complain(ValueError(f"--seeds takes numbers separated by commas, not {seeds!r}"))
        raise typer.Exit(EXIT_USAGE) from None
    folders, failed = [], {}
    for seed in numbers:
        try:
            ran = _run(
                minutes=minutes,
                seed=seed,
                kinds=[],
                acts=None,
                rate=rate,
                quick=False,
                promised=True,
            )
        except typer.Exit:
            raise
        except Exception as error:
            if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
                raise  # an interrupt inside a call-back of Kafka's client
            complain(error)
            failed[f"seed {seed}"] = f"**did not come to its end**: {error}"
        else:
            folders.append(ran.folder)
    words = f"`make reliability MINUTES={minutes:g} SEEDS={seeds}`, {rate:g} writes a second"
    about = {**command.measured_on(), "command": words, **failed}
    code = command.report(out, folders, markdown, about) if folders else EXIT_WRONG
    raise typer.Exit(EXIT_WRONG if failed else code)


def _run(
    *,
    minutes: float,
    seed: int,
    kinds: list[str],
    acts: list[str] | None,
    rate: float,
    quick: bool,
    promised: bool = False,
) -> Ran:
    """One run; without kinds of all, with None as acts of all of these, too.

    ``promised``: it has to have the promised number of faults, however short it is.
    """
    from shopstream_stack.chaos import command, place, schedule  # noqa: PLC0415 - as above

    settings = load_settings()
    try:
        named = schedule.schedule(seed, minutes, kinds or schedule.FAULTS)
        played = schedule.acts(schedule.ACTS if acts is None else acts)
    except schedule.UnknownFault as error:
        complain(error)
        raise typer.Exit(EXIT_USAGE) from None
    chosen = schedule.QUICK if quick else named
    full = not kinds and minutes >= schedule.FULL_MINUTES
    least = len(chosen) if quick else schedule.FAULTS_MIN if promised or full else 0
    with (
        reserved_ports() as ports,
        locked_system(place.chaos_settings(settings, ports)) as system,
    ):
        return command.chaos(
            system,
            ports,
            out,
            seed=seed,
            seconds=schedule.QUICK_SECONDS if quick else minutes * 60,
            writes_per_second=rate,
            patience=schedule.QUICK_PATIENCE if quick else 1.0,
            faults=chosen,
            acts=played,
            every_fault=quick,
            faults_min=least,
        )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
