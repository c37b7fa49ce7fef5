"""The benchmarks as commands of `shopstream`: arguments in, an exit code out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shopstream_stack.bench.names import NAMES, UNSIZED, Form
from shopstream_stack.context import EXIT_USAGE, err, load_settings, out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Quick = Annotated[bool, typer.Option("--quick", help="Short; judges correctness only, no speed.")]
Sizes = Annotated[bool, typer.Option("--sizes", help="Only what one unit costs at which size.")]
Figures = Annotated[Path | None, typer.Option("--json", help="Write the figures here.")]
Table = Annotated[Path | None, typer.Option("--markdown", help="Write the table here.")]


def register(app: typer.Typer) -> None:
    """Make them commands of this application."""
    app.command("bench")(bench)
    for name, title in NAMES.items():
        text = f"{title}, on a system of its own; exit 0 if every bar is reached."
        app.command(f"bench-{name}", help=text)(_command(name))


def bench(
    *,
    only: Annotated[
        str, typer.Option(help=f"Some of {','.join(NAMES)}, separated by commas.")
    ] = "",
    quick: Quick = False,
    sizes: Sizes = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what was measured at this commit.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write docs/benchmarks.md and its picture.")
    ] = False,
    json: Figures = None,
) -> None:
    """Run all benchmarks, one after the other, and print one table; exit 0 if all hold."""
    from shopstream_stack.bench import benches, command, run_all  # noqa: PLC0415 - Kafka client only if needed

    names = [name.strip() for name in only.split(",") if name.strip()] or list(NAMES)
    if unknown := [name for name in names if name not in NAMES]:
        _refuse(f"--only {unknown[0]}: the benchmarks are {', '.join(NAMES)}")
    if write and quick:
        _refuse("--write: a quick run has no figures for the page; leave out one of the two")
    if sizes and not only:
        names = [name for name in names if name not in UNSIZED]
    form = _form(names, quick=quick, sizes=sizes)
    settings = load_settings()
    wanted = [one for one in benches.BENCHES if one.name in names]
    wish = run_all.Wish(form, fresh=fresh, write=write, json=json)
    raise typer.Exit(run_all.bench_all(wanted, settings, out, command.kept_of(settings), wish))


def _command(name: str) -> Callable[..., None]:
    def run(
        *, quick: Quick = False, sizes: Sizes = False, json: Figures = None, markdown: Table = None
    ) -> None:
        from shopstream_stack.bench import benches, command  # noqa: PLC0415 - as above

        one = next(one for one in benches.BENCHES if one.name == name)
        form = _form([name], quick=quick, sizes=sizes)
        raise typer.Exit(
            command.bench(one, load_settings(), out, form, json=json, markdown=markdown)
        )

    return run


def _form(names: Iterable[str], *, quick: bool, sizes: bool) -> Form:
    if quick and sizes:
        _refuse("--quick and --sizes: leave out one of the two")
    if sizes and (one_size := UNSIZED.intersection(names)):
        _refuse(f"--sizes: {min(one_size)} has one size only; leave out one of the two")
    return "quick" if quick else "sizes" if sizes else "full"


def _refuse(text: str) -> None:
    err.print(text, style="red", markup=False)
    raise typer.Exit(EXIT_USAGE)
