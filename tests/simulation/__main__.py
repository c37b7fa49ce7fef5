"""`python -m tests.simulation`: many schedules; one again with its trace; the whole small tree.

    python -m tests.simulation --schedules 100000 --seed 1          seeds 1, 2, 3, … of both
    python -m tests.simulation --of consumers --schedules 20000     of one of them
    python -m tests.simulation --of relay --seed 4711 --trace       one seed, as it happened
    python -m tests.simulation --without LSO_WAIT --schedules 1000  what a piece is for
    python -m tests.simulation exhaustive --without FENCING         the relay's abstract protocol
    python -m tests.simulation exhaustive --of consumers --pairs    each two faults of two rounds

Exit code 1 with the first violations and the seeds that show them.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from enum import Enum, StrEnum
from functools import partial
from typing import Annotated, Any, Final, NamedTuple, Protocol

import typer
from tests.simulation import schedule
from tests.simulation.consumers import exhaustive as consumers_exhaustive
from tests.simulation.consumers import pieces as consumers_pieces
from tests.simulation.consumers import schedule as consumers
from tests.simulation.exhaustive import search
from tests.simulation.pieces import Piece
from tests.simulation.schedule import silence

from shopstream_analytics.worker.sinks import WORKERS

#: Seeds that one worker takes at a time.
CHUNK: Final = 250
SHOWN_MAX: Final = 10

app = typer.Typer(add_completion=False, help=__doc__)

_Violations = Sequence[tuple[int, str]]


class Of(StrEnum):
    """What is simulated."""

    RELAY = "relay"
    CONSUMERS = "consumers"
    BOTH = "both"


class _Outcome(Protocol):
    @property
    def seed(self) -> int: ...
    @property
    def violation(self) -> str | None: ...


class _Simulation(NamedTuple):
    """``run``: a seed and the piece that is left out, as `schedule.run`."""

    pieces: type[Enum]
    run: Callable[[int, Any], _Outcome]


_SIMULATIONS: Final = {
    Of.RELAY: _Simulation(Piece, schedule.run),
    Of.CONSUMERS: _Simulation(consumers_pieces.Piece, consumers.run),
}
_NAMES: Final = ", ".join(p.name for simulation in _SIMULATIONS.values() for p in simulation.pieces)

_Without = Annotated[str | None, typer.Option(help=f"Leave out one of {_NAMES}")]


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    *,
    of: Annotated[Of, typer.Option(help="What to simulate")] = Of.BOTH,
    schedules: Annotated[int, typer.Option(min=1, help="How many seeds, one after the other")] = 1,
    seed: Annotated[int, typer.Option(help="The first seed")] = 0,
    trace: Annotated[bool, typer.Option(help="Show one seed as it happened")] = False,
    without: _Without = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at work")] = 1,
) -> None:
    """Run schedules of the seeds from --seed on."""
    if context.invoked_subcommand is not None:
        return
    wrong = False
    for one in _chosen(of, without):
        if trace:
            wrong |= _show(one, seed, without)
        else:
            wrong |= _try(one, range(seed, seed + schedules), without, jobs)
    raise typer.Exit(1 if wrong else 0)


def _chosen(of: Of, without: str | None) -> Sequence[Of]:
    """Those that are wanted and have the piece."""
    found = [
        name
        for name, simulation in _SIMULATIONS.items()
        if of in {name, Of.BOTH}
        and (without is None or without.upper() in simulation.pieces.__members__)
    ]
    if not found:
        raise typer.BadParameter(f"--without: none of {_NAMES}")
    return found


def _show(of: Of, seed: int, without: str | None) -> bool:
    simulation = _SIMULATIONS[of]
    with silence():
        outcome = simulation.run(seed, _piece(of, without))
    typer.echo(str(outcome))
    return outcome.violation is not None


def _try(of: Of, seeds: range, without: str | None, jobs: int) -> bool:
    began = time.monotonic()
    found = _search(of, seeds, without, jobs)
    seconds = time.monotonic() - began
    typer.echo(
        f"{of}: {len(seeds)} schedules from seed {seeds.start} in {seconds:.1f} s: "
        f"{len(found)} violations"
    )
    flags = "" if without is None else f" --without {without.upper()}"
    for wrong, violation in found[:SHOWN_MAX]:
        again = f"python -m tests.simulation --of {of} --seed {wrong} --trace{flags}"
        typer.echo(f"  {violation}\n    {again}")
    return bool(found)


@app.command()
def exhaustive(
    *,
    of: Annotated[Of, typer.Option(help="What to search")] = Of.BOTH,
    pairs: Annotated[bool, typer.Option(help="Of the consumers also two faults a run")] = False,
    without: _Without = None,
) -> None:
    """Search whole: the relay's abstract protocol, the consumers' every fault at every step.

    Shows the shortest way to a violation.
    """
    wrong = False
    for one in _chosen(of, without):
        if one is Of.RELAY:
            result = search(None if without is None else Piece[without.upper()])
            typer.echo(str(result))
            wrong |= result.violation is not None
            continue
        piece = None if without is None else consumers_pieces.Piece[without.upper()]
        with silence():
            for sink in WORKERS:
                found = consumers_exhaustive.search(sink, piece, pairs=pairs)
                typer.echo(str(found))
                wrong |= bool(found.violations)
    raise typer.Exit(1 if wrong else 0)


def _piece(of: Of, name: str | None) -> Enum | None:
    return None if name is None else _SIMULATIONS[of].pieces[name.upper()]


def _search(of: Of, seeds: range, without: str | None, jobs: int) -> _Violations:
    chunks = [seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK)]
    found: list[tuple[int, str]] = []
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(jobs)) if jobs > 1 else None
        each = map if pool is None else pool.map
        for done, violations in enumerate(each(partial(_violations, of, without), chunks), 1):
            found += violations
            typer.echo(f"\r{done * CHUNK:>8} schedules, {len(found)} wrong", nl=False, err=True)
    typer.echo(err=True)
    return found


def _violations(of: Of, without: str | None, seeds: range) -> _Violations:
    simulation, piece = _SIMULATIONS[of], _piece(of, without)
    with silence():
        outcomes = [simulation.run(seed, piece) for seed in seeds]
    return [(outcome.seed, outcome.violation) for outcome in outcomes if outcome.violation]


if __name__ == "__main__":
    app()
