"""`python -m tests.endurance`: the system held against numbers that no test run has time for.

    python -m tests.endurance rolling --clients 2000      a rolling restart of two workers
    python -m tests.endurance churn --connects 100000     connections that come and go, RST included
    python -m tests.endurance cuts --cuts 1000 --seed 1   cuts, kills, more partitions
    python -m tests.endurance engine --records 300000     an event's cost in analytics, a slow sink
    python -m tests.endurance analytics --events 1000000 --kills 20 --seed 1
                                                          workers killed, all recounted twice
    python -m tests.endurance outage --minutes 60 --speed 60
                                                          an hour without each store

Each starts the components and the service itself, prints what it has seen as one line of JSON, and
ends with exit code 1 when a bound does not hold.
"""

import asyncio
import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from tests.endurance import churn as churning
from tests.endurance import counted
from tests.endurance import cuts as cutting
from tests.endurance import engine as engines
from tests.endurance import outage as outages
from tests.endurance import rolling as rolls
from tests.support.analytics import log_folder
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


@app.command()
def analytics(
    *,
    events: Annotated[int, typer.Option(min=10, help="Events that are committed")] = 1_000_000,
    kills: Annotated[int, typer.Option(min=0, help="Workers killed and started again")] = 20,
    seed: Annotated[int, typer.Option(help="Of the events and of who is killed when")] = 1,
) -> None:
    """Kill workers under load; recount by SQL over PostgreSQL and by DuckDB over the archive."""
    with LocalComponents() as components, _logs() as logs:
        scene = counted.Scene(components, logs, events=events, kills=kills, seed=seed)
        seen = scene.play()
    _end({**asdict(seen), "holds": seen.holds}, holds=seen.holds)


@app.command()
def outage(
    *,
    minutes: Annotated[float, typer.Option(min=0.1, help="Of absence, of each store")] = 60.0,
    speed: Annotated[float, typer.Option(min=1, help="How much shorter the clock is")] = 60.0,
) -> None:
    """DynamoDB away, then MinIO: the other worker goes on, and catching up beats arrival."""
    with LocalComponents() as components, _logs() as logs:
        seen = outages.Scene(components, logs, minutes=minutes, speed=speed).play()
    _end({**asdict(seen), "holds": seen.holds}, holds=seen.holds)


@contextmanager
def _logs() -> Iterator[Path]:
    """Where workers write; kept when the run fails, because it says why."""
    folder = log_folder()
    yield folder
    shutil.rmtree(folder)


def _end(seen: dict[str, Any], *, holds: bool) -> None:
    typer.echo(json.dumps(seen))
    raise typer.Exit(0 if holds else 1)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    app()
