"""The `shopstream` command: the life of the local system; the other commands are joined in.

A command stands in `commands.py` of the package that does its work, and what all of them share in
`context.py`; here is what starts, stops and shows the system itself.
"""

from __future__ import annotations

import errno
import sys
import time
from typing import Annotated, Final

import typer

from shopstream_stack import page, sinks_commands, status, tools
from shopstream_stack.archive import commands as archive_commands
from shopstream_stack.bench import commands as bench_commands
from shopstream_stack.cache import Cache
from shopstream_stack.chaos import commands as chaos_commands
from shopstream_stack.chromium import ensure_chromium
from shopstream_stack.console import reporting
from shopstream_stack.context import (
    EXIT_USAGE,
    complain,
    err,
    load_settings,
    locked_system,
    out,
)
from shopstream_stack.errors import StackError
from shopstream_stack.kit import commands as kit_commands
from shopstream_stack.settings import SERVICES
from shopstream_stack.system import System, side_by_side
from shopstream_stack.topics import commands as topics_commands
from shopstream_stack.verify import commands as verify_commands
from shopstream_stack.whole import commands as whole_commands

EXIT_FAILED: Final = 1
FOLLOW_POLL_SECONDS: Final = 0.3
# A folder of another user, or that is a file; a full or read-only disk: no fault of the code.
_MACHINE_ERRORS: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}
)


app = typer.Typer(
    name="shopstream",
    help="Run and look at the local Shopstream system.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(topics_commands.app, name="topics")
app.add_typer(archive_commands.app, name="archive")
app.add_typer(sinks_commands.app, name="sinks")

Names = Annotated[list[str] | None, typer.Argument(help="Only these; all when none is named.")]


def main() -> None:
    """Run the command line; what a person can put right is one clear message, no traceback."""
    try:
        app()
    except StackError as error:
        complain(error)
        sys.exit(EXIT_FAILED)
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        complain(error)
        sys.exit(EXIT_FAILED)


@app.command()
def prepare() -> None:
    """Fetch and build everything the system needs, once."""
    settings = load_settings()
    with reporting(out) as reporter:
        _prepare(System(settings, reporter))
        ensure_chromium(settings.environ, reporter)
        cache = Cache(settings.cache, settings.environ)
        cache.ensure_load(reporter)
        cache.ensure_k6(reporter)


@app.command()
def up(names: Names = None) -> None:
    """Start what is dead, leave the living alone, return when all is healthy."""
    settings = load_settings()
    with locked_system(settings) as system:
        started = bring_up(system, names)
    show(system)
    if not started:
        out.print("All of it ran already; a changed variable takes effect after `make down`.")


@app.command()
def down(names: Names = None) -> None:
    """Stop the system, services first; data stays."""
    settings = load_settings()
    with locked_system(settings) as system:
        stopped = system.stop(*names) if names else system.stop_all()
    out.print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


@app.command()
def reset() -> None:
    """Stop the system and forget its data."""
    settings = load_settings()
    with locked_system(settings) as system:
        system.stop_all()
        system.forget()
    out.print("Stopped; all data is forgotten.")


@app.command("status")
def show_status() -> None:
    """Show a line a process; exit 0 only if all are up."""
    found = status.rows(System(load_settings()))
    out.print(status.table(found))
    if any(row.state != "healthy" for row in found):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="A name as `shopstream status` shows it.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
) -> None:
    """Print the log of one process."""
    system = System(load_settings())
    path = system.runner.log_path(name)
    if not path.exists():
        known = ", ".join(sorted(log.stem for log in path.parent.glob("*.log"))) or "none"
        raise StackError(f"{name} has no log; there are: {known}")
    with path.open(encoding="utf-8", errors="replace") as log:
        while True:
            for line in log:
                sys.stdout.write(line)
            sys.stdout.flush()
            if not follow:
                return
            time.sleep(FOLLOW_POLL_SECONDS)


@app.command()
def demo() -> None:
    """Start what is not running, drive it for real, show what arrived where."""
    from shopstream_stack.demo.command import demo as run  # noqa: PLC0415 - its clients are slow to load

    settings = load_settings()

    def start() -> None:
        with locked_system(settings) as system:
            bring_up(system)

    raise typer.Exit(run(settings, out, start))


for _others in (verify_commands, bench_commands, whole_commands, chaos_commands, kit_commands):
    _others.register(app)


@app.command("serve-web", hidden=True)
def serve_web() -> None:
    """Serve the built page on PORT; `up` runs this."""
    settings = load_settings()
    page.run_server(settings, settings.own_port or settings.web_port, settings.host)


@app.command("stream-id")
def stream_id(
    *,
    future: Annotated[bool, typer.Option("--future", help="Beyond the log's end.")] = False,
    evicted: Annotated[bool, typer.Option("--evicted", help="Before the log's start.")] = False,
    unknown_epoch: Annotated[
        bool, typer.Option("--unknown-epoch", help="Of topics that do not exist.")
    ] = False,
) -> None:
    """Print a stream id that cannot be resumed, for tests of clients."""
    from shopstream_stack import stream_ids  # noqa: PLC0415 - the Kafka client only where needed

    if future + evicted + unknown_epoch != 1:
        err.print("Choose one of --future, --evicted, --unknown-epoch", style="red")
        raise typer.Exit(EXIT_USAGE)
    brokers = load_settings().addresses["KAFKA_BROKERS"]
    kind: stream_ids.Kind = "future" if future else "evicted" if evicted else "unknown-epoch"
    print(stream_ids.unresumable(brokers, kind))  # noqa: T201 - the one line a script reads
    if evicted and not stream_ids.anything_evicted(brokers):
        typer.echo("Nothing has been evicted yet: this id, of offset 0, can be resumed.", err=True)


def bring_up(system: System, names: list[str] | None = None) -> bool:
    """Prepare and start `names` (everything when None): components first, then services.

    True when any of them was started here.
    """
    wanted = names or system.names()
    for name in wanted:
        system.require_own(name)
    components = [name for name in wanted if name not in SERVICES]
    services = [name for name in wanted if name in SERVICES]
    _prepare(system, components, page_too="web" in services)
    system.require_free_ports(*wanted)
    was_dead = any(system.runner.living(name) is None for name in wanted)
    system.start(*components)
    system.start(*services)
    return was_dead


def show(system: System) -> None:
    """Print the table and the addresses to open."""
    out.print(status.table(status.rows(system)))
    for title, url in system.links().items():
        out.print(f"{title:<16} {url}", highlight=False)


def _prepare(system: System, names: list[str] | None = None, *, page_too: bool = True) -> None:
    needed = system.tools_of(names) + (page.tools_to_build(system.settings) if page_too else [])
    tools.require(list(dict.fromkeys(needed)))
    tasks = [lambda: system.prepare(names)]
    if page_too:
        tasks.append(lambda: page.ensure_built(system.settings, system.reporter))
    side_by_side(tasks)
