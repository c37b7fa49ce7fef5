"""`python -m tests.endurance`: the system held against numbers that no test run has time for.

    python -m tests.endurance rolling --clients 2000      a rolling restart of two workers
    python -m tests.endurance churn --connects 100000     connections that come and go, RST included
    python -m tests.endurance cuts --cuts 1000 --seed 1   cuts, kills, more partitions
    python -m tests.endurance engine --records 300000     an event's cost in analytics, a slow sink

Each starts a broker and the service itself, prints what it has seen as one line of JSON, and ends
with exit code 1 when a bound does not hold.
"""

import asyncio
import json
import resource
from dataclasses import asdict
from typing import Annotated, Any

import typer
from tests.endurance import churn as churning
from tests.endurance import cuts as cutting
from tests.endurance import engine as engines
from tests.endurance import rolling as rolls
from tests.support.components import LocalComponents

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def rolling(
    *,
    clients: Annotated[int, typer.Option(min=1, help="Resuming clients")] = 2_000,
    workers: Annotated[int, typer.Option(min=2, help="Workers behind the port")] = 2,
    drain_seconds: Annotated[float, typer.Option(min=0, help="How long each drains")] = 10.0,
) -> None:
    """Replace all workers under clients that resume; each journal is held against Kafka."""
    with LocalComponents() as components:
        seen = asyncio.run(
            rolls.run(components.kafka_brokers, clients, workers=workers, drain=drain_seconds)
        )
    _end({**asdict(seen), "holds": seen.holds}, holds=seen.holds)


@app.command()
def churn(
    *,
    connects: Annotated[int, typer.Option(min=1_000, help="Connections in all")] = 100_000,
) -> None:
    """Open and end streams in all ways there are; the process may not grow by it."""
    with LocalComponents() as components:
        seen = churning.run(components.kafka_brokers, connects)
    _end({**asdict(seen), "holds": seen.holds}, holds=seen.holds)


@app.command()
def cuts(
    *,
    cuts: Annotated[int, typer.Option(min=1, help="Connections that are cut, in all")] = 1_000,
    clients: Annotated[int, typer.Option(min=3, help="Clients; one in three has no filter")] = 12,
    kills: Annotated[int, typer.Option(min=0, help="Services killed and started again")] = 10,
    seed: Annotated[int, typer.Option(help="Of the writer's and the clients' choices")] = 1,
) -> None:
    """Cut clients, kill services, add partitions; each client is held against Kafka's log."""
    with LocalComponents() as components:
        scene = cutting.Scene(
            components.kafka_brokers, clients=clients, cuts=cuts, kills=kills, seed=seed
        )
        seen = asyncio.run(scene.play())
    _end({**asdict(seen), "holds": seen.holds}, holds=seen.holds)


@app.command()
def engine(
    *,
    records: Annotated[int, typer.Option(min=10_000, help="The backlog")] = 300_000,
) -> None:
    """Processor time an event in the analytics engine beside a bare loop; a sink of 20 ms."""
    with LocalComponents() as components:
        seen = engines.run(components.kafka_brokers, records)
    _end({**asdict(seen), "holds": seen.holds}, holds=seen.holds)


def _end(seen: dict[str, Any], *, holds: bool) -> None:
    typer.echo(json.dumps(seen))
    raise typer.Exit(0 if holds else 1)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    app()
