"""`python -m tests.simulation`: many schedules; one again with its trace; the whole small tree.

    python -m tests.simulation --schedules 100000 --seed 1          seeds 1, 2, 3, …
    python -m tests.simulation --seed 4711 --trace                  one seed, as it happened
    python -m tests.simulation --without LSO_WAIT --schedules 1000  what a piece is for
    python -m tests.simulation exhaustive --without FENCING         the abstract protocol

Exit code 1 with the first violations and the seeds that show them.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Final

import typer
from tests.simulation.exhaustive import search
from tests.simulation.pieces import Piece
from tests.simulation.schedule import run, silence

#: Seeds that one worker takes at a time.
CHUNK: Final = 250
SHOWN_MAX: Final = 10

app = typer.Typer(add_completion=False, help=__doc__)

_Violations = Sequence[tuple[int, str]]


_Without = Annotated[
    str | None, typer.Option(help=f"Leave out one of {', '.join(p.name for p in Piece)}")
]


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    *,
    schedules: Annotated[int, typer.Option(min=1, help="How many seeds, one after the other")] = 1,
    seed: Annotated[int, typer.Option(help="The first seed")] = 0,
    trace: Annotated[bool, typer.Option(help="Show one seed as it happened")] = False,
    without: _Without = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at work")] = 1,
) -> None:
    """Run schedules of the seeds from --seed on."""
    if context.invoked_subcommand is not None:
        return
    piece = _piece(without)
    if trace:
        with silence():
            outcome = run(seed, piece)
        typer.echo(str(outcome))
        raise typer.Exit(1 if outcome.violation else 0)
    began = time.monotonic()
    found = _search(range(seed, seed + schedules), piece, jobs)
    seconds = time.monotonic() - began
    typer.echo(
        f"{schedules} schedules from seed {seed} in {seconds:.1f} s: {len(found)} violations"
    )
    flags = "" if piece is None else f" --without {piece.name}"
    for wrong, violation in found[:SHOWN_MAX]:
        typer.echo(f"  {violation}\n    python -m tests.simulation --seed {wrong} --trace{flags}")
    raise typer.Exit(1 if found else 0)


@app.command()
def exhaustive(*, without: _Without = None) -> None:
    """Search all interleavings of the abstract protocol; shows the shortest way to a violation."""
    result = search(_piece(without))
    typer.echo(str(result))
    raise typer.Exit(1 if result.violation else 0)


def _piece(name: str | None) -> Piece | None:
    return None if name is None else Piece[name.upper()]


def _search(seeds: range, piece: Piece | None, jobs: int) -> _Violations:
    chunks = [seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK)]
    found: list[tuple[int, str]] = []
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(jobs)) if jobs > 1 else None
        each = map if pool is None else pool.map
        for done, violations in enumerate(each(partial(_violations, piece), chunks), 1):
            found += violations
            typer.echo(f"\r{done * CHUNK:>8} schedules, {len(found)} wrong", nl=False, err=True)
    typer.echo(err=True)
    return found


def _violations(piece: Piece | None, seeds: range) -> _Violations:
    with silence():
        outcomes = [run(seed, piece) for seed in seeds]
    return [(outcome.seed, outcome.violation) for outcome in outcomes if outcome.violation]


if __name__ == "__main__":
    app()
