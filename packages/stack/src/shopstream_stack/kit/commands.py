"""`sse-load` and `sse-conformance` as commands of `shopstream`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from shopstream_stack.cache import Cache
from shopstream_stack.console import reporting, standard_output
from shopstream_stack.settings import StackSettings

Url = Annotated[str, typer.Argument(help="An event stream, of any server.")]
Header = Annotated[
    list[str] | None, typer.Option("--header", "-H", help="As `Name: value`; may be repeated.")
]
Json = Annotated[Path | None, typer.Option("--json", help="Write what was found here.")]


def register(app: typer.Typer) -> None:
    """Make them commands of this application."""
    app.command("sse-load")(sse_load)
    app.command("sse-conformance")(sse_conformance)


def sse_load(
    url: Url,
    *,
    profile: Annotated[
        Literal["plain", "shopstream"], typer.Option(help="What is known of its events.")
    ] = "plain",
    connections: Annotated[int, typer.Option("--connections", "-c", min=1, max=50_000)] = 100,
    seconds: Annotated[float, typer.Option("--seconds", "-s", min=0.1)] = 10.0,
    ramp: Annotated[float, typer.Option(help="New streams a second; 0: all at once.", min=0)] = 0,
    cut: Annotated[int, typer.Option(help="Reset so many after a third of the time.", min=0)] = 0,
    slow: Annotated[int, typer.Option(help="So many do not read.", min=0)] = 0,
    groups: Annotated[int, typer.Option(help="Values for {{n}} in the URL, from 0.", min=1)] = 1,
    header: Header = None,
    json: Json = None,
) -> None:
    """Hold many streams of any server, check what comes; exit 0 if nothing was missed."""
    from shopstream_stack.kit import load_command  # noqa: PLC0415 - only where needed

    settings = StackSettings.load()
    options = load_command.LoadOptions(
        profile=profile,
        connections=connections,
        seconds=seconds,
        ramp=ramp,
        cut=cut,
        slow=slow,
        groups=groups,
        headers=_headers(header or []),
        json=json,
    )
    console = standard_output()
    with reporting(console) as reporter:
        program = Cache(settings.cache, settings.environ).ensure_load(reporter)
    raise typer.Exit(load_command.load(program, url, options, console))


def sse_conformance(
    url: Url,
    *,
    profile: Annotated[
        Literal["plain", "shopstream"],
        typer.Option(help="The WHATWG standard and experience; or docs/stream.md as well."),
    ] = "plain",
    patience: Annotated[
        float, typer.Option(help="Seconds to wait for a heartbeat, or for an event.", min=0.1)
    ] = 20.0,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A check by its name; may be repeated.")
    ] = None,
    header: Header = None,
    json: Json = None,
) -> None:
    """Check a server of event streams from outside; exit 0 if no check fails."""
    from shopstream_stack.kit import conformance  # noqa: PLC0415 - as above

    code = conformance.command(
        url,
        standard_output(),
        profile=profile,
        patience=patience,
        headers=_headers(header or []),
        into=json,
        only=only or (),
    )
    raise typer.Exit(code)


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = [line.partition(":") for line in lines]
    if wrong := [line for line, pair in zip(lines, pairs, strict=True) if not pair[1]]:
        raise typer.BadParameter(f"--header {wrong[0]}: write it as `Name: value`")
    return {name.strip(): value.strip() for name, _, value in pairs}
