"""The commands of `shopstream archive`: arguments in, tables and JSON out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from shopstream_stack.context import load_settings, out
from shopstream_stack.system import System

#: What a rebuild reads, writes and is held against.
REBUILD_NEEDS: Final = ("kafka", "dynamodb", "minio")

Topic = Annotated[str | None, typer.Option("--topic", "-t", help="Only this one.")]
Day = Annotated[str | None, typer.Option("--day", "-d", help="A UTC day, as 2026-11-21.")]
Partition = Annotated[int | None, typer.Option("--partition", "-p", min=0, help="Only this one.")]
Generation = Annotated[
    int | None, typer.Option(min=0, help="Of a topic that was made again: only this life of it.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a row.")]

app = typer.Typer(help="Look at the archive, read it, prove it.", no_args_is_help=True)


@app.command("ls")
def ls(
    *,
    topic: Topic = None,
    day: Day = None,
    partition: Partition = None,
    generation: Generation = None,
    objects: Annotated[
        bool, typer.Option("--objects", "-o", help="A row an object, with what it says of itself.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what there is: a row a topic, day and partition."""
    from shopstream_stack.archive import run  # noqa: PLC0415 - AWS's client only where needed

    run.ls(run.select(topic, day, partition, generation), objects=objects, as_json=json)


@app.command("cat")
def cat(
    topic: Annotated[str, typer.Argument(help="A topic, as shop.orders.")],
    *,
    partition: Partition = None,
    generation: Generation = None,
    begin: Annotated[int, typer.Option("--from-offset", min=0, help="Inclusive.")] = 0,
    end: Annotated[int | None, typer.Option("--to-offset", min=0, help="Exclusive.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Kafka time, inclusive: RFC 3339, or ms since 1970.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="The same, exclusive.")] = None,
    events: Annotated[
        bool, typer.Option("--events", help="The events alone; what is no event is left out.")
    ] = False,
) -> None:
    """Print archived lines as NDJSON, partition by partition, byte for byte as they are stored."""
    from shopstream_stack.archive import run  # noqa: PLC0415 - as above

    run.cat(
        run.cut(topic, partition, generation, begin, end, since, until),
        events_only=events,
    )


@app.command("verify")
def verify(
    *,
    topic: Topic = None,
    manifest: Annotated[
        list[Path] | None,
        typer.Option("--manifest", help="A day's list, kept elsewhere; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Walk all chains, read every line, name what is broken; exit 0 if nothing is."""
    from shopstream_stack.archive import run  # noqa: PLC0415 - as above

    raise typer.Exit(run.verify(topic, manifest or [], as_json=json))


@app.command("manifest")
def manifest(
    *,
    day: Annotated[str, typer.Option("--day", "-d", help="A UTC day, as 2026-11-21.")],
    topic: Topic = None,
) -> None:
    """List a day's objects in an object of its own."""
    from shopstream_stack.archive import run  # noqa: PLC0415 - as above

    run.manifest(topic, day)


@app.command("compact")
def compact(
    *,
    day: Annotated[str, typer.Option("--day", "-d", help="A UTC day that is over.")],
    topic: Topic = None,
) -> None:
    """Add a day as Parquet with typed columns; the chain stays as it is. May be called again."""
    from shopstream_stack.archive import run  # noqa: PLC0415 - as above

    raise typer.Exit(run.compact(topic, day))


@app.command("get")
def get(
    *,
    to: Annotated[Path, typer.Option("--to", help="The folder; objects keep their keys below it.")],
    topic: Topic = None,
    day: Day = None,
    partition: Partition = None,
    generation: Generation = None,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="The Parquet that `compact` made.")
    ] = False,
) -> None:
    """Copy objects to a folder, for tools that read files."""
    from shopstream_stack.archive import run  # noqa: PLC0415 - as above

    run.get(run.select(topic, day, partition, generation), to, parquet=parquet)


@app.command("sql")
def sql(
    query: Annotated[Path, typer.Argument(help="A file, such as docs/queries/lines-revenue.sql.")],
    *,
    folder: Annotated[Path, typer.Option("--in", help="A folder that `get` filled.")],
    json: Json = False,
) -> None:
    """Ask DuckDB about files that `get` copied."""
    from shopstream_stack.archive import run  # noqa: PLC0415 - as above

    run.sql(query, folder, as_json=json)


@app.command("rebuild")
def rebuild(
    *,
    compare: Annotated[
        bool, typer.Option("--compare", help="Hold the live aggregates against it.")
    ] = False,
    swap: Annotated[bool, typer.Option("--swap", help="Let the workers go on with it.")] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Swap also to what holds less than is live.")
    ] = False,
    until: Annotated[
        str, typer.Option(help="Leave out what is of this moment or later.", metavar="RFC3339")
    ] = "",
    use: Annotated[int | None, typer.Option(help="Only swap, to this generation.", min=0)] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Only delete the rebuilds that are not in use.")
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
) -> None:
    """Make the aggregates again from the archive; exit 0 if nothing differs or it was swapped."""
    from shopstream_stack import rebuild as program  # noqa: PLC0415 - only where needed

    settings = load_settings()
    System(settings).require_up(*REBUILD_NEEDS)
    words = [
        *(["--compare"] if compare else []),
        *(["--swap"] if swap else []),
        *(["--accept-loss"] if accept_loss else []),
        *(["--until", until] if until else []),
        *(["--use", str(use)] if use is not None else []),
        *(["--drop"] if drop else []),
    ]
    raise typer.Exit(program.run(settings, out, words, json))
