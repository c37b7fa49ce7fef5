"""The `shopstream` command: a thin layer over `System`."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich.console import Console

from shopstream_stack import page, status, tools
from shopstream_stack.archive import commands as archive_commands
from shopstream_stack.cache import Cache
from shopstream_stack.chromium import ensure_chromium
from shopstream_stack.console import Reporter, reporting, standard_output
from shopstream_stack.errors import StackError
from shopstream_stack.kit import commands as kit_commands
from shopstream_stack.ports import reserved_ports
from shopstream_stack.settings import SERVICES, StackSettings
from shopstream_stack.system import System, side_by_side

if TYPE_CHECKING:
    from shopstream_stack.demo.target import Target

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
# As long as another command may build and start everything.
LOCK_SECONDS_MAX: Final = 2400.0
LOCK_POLL_SECONDS: Final = 0.2
FOLLOW_POLL_SECONDS: Final = 0.3
#: What `verify` and `topics adopt` ask, and what the other commands about topics do.
COMPONENTS: Final = ("kafka", "postgres", "dynamodb", "minio")
TOPICS_NEED: Final = ("kafka", "postgres")
SINKS_NEED: Final = ("kafka", "dynamodb", "minio")
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
topics_app = typer.Typer(
    help="Topics made again, topics with more partitions.", no_args_is_help=True
)
app.add_typer(topics_app, name="topics")
app.add_typer(archive_commands.app, name="archive")
sinks_app = typer.Typer(
    help="Where the analytics sinks stand, and how one goes on.", no_args_is_help=True
)
app.add_typer(sinks_app, name="sinks")
out = standard_output()
kit_commands.register(app)
err = Console(stderr=True)

Names = Annotated[list[str] | None, typer.Argument(help="Only these; all when none is named.")]
Quick = Annotated[bool, typer.Option("--quick", help="Short; judges correctness only, no speed.")]
Figures = Annotated[Path | None, typer.Option("--json", help="Write the figures here.")]
Table = Annotated[Path | None, typer.Option("--markdown", help="Write the table here.")]


def main() -> None:
    """Run the command line; what a person can put right is one clear message, no traceback."""
    try:
        app()
    except StackError as error:
        _complain(error)
        sys.exit(EXIT_FAILED)
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        _complain(error)
        sys.exit(EXIT_FAILED)


@app.command()
def prepare() -> None:
    """Fetch and build everything the system needs, once."""
    settings = _settings()
    with reporting(out) as reporter:
        _prepare(System(settings, reporter))
        ensure_chromium(settings.environ, reporter)
        Cache(settings.cache, settings.environ).ensure_load(reporter)


@app.command()
def up(names: Names = None) -> None:
    """Start what is dead, leave the living alone, return when all is healthy."""
    settings = _settings()
    with locked_system(settings) as system:
        started = bring_up(system, names)
    show(system)
    if not started:
        out.print("All of it ran already; a changed variable takes effect after `make down`.")


@app.command()
def down(names: Names = None) -> None:
    """Stop the system, services first; data stays."""
    settings = _settings()
    with locked_system(settings) as system:
        stopped = system.stop(*names) if names else system.stop_all()
    out.print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


@app.command()
def reset() -> None:
    """Stop the system and forget its data."""
    settings = _settings()
    with locked_system(settings) as system:
        system.stop_all()
        system.forget()
    out.print("Stopped; all data is forgotten.")


@app.command("status")
def show_status() -> None:
    """Show a line a process; exit 0 only if all are up."""
    found = status.rows(System(_settings()))
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
    system = System(_settings())
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

    settings = _settings()

    def start() -> None:
        with locked_system(settings) as system:
            bring_up(system)

    raise typer.Exit(run(settings, out, start))


@app.command()
def verify(
    *,
    journal: Annotated[
        list[Path] | None,
        typer.Option("--journal", help="A journal, or a folder of them; may be repeated."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
) -> None:
    """Prove that nothing was lost, doubled, reordered or made up; exit 0 if it holds."""
    from shopstream_stack.verify import command  # noqa: PLC0415 - its clients are slow to load

    settings = _settings()
    System(settings).require_up(*COMPONENTS)
    raise typer.Exit(command.run(settings, out, journal or (), json))


@app.command("bench-api")
def bench_api(
    *,
    quick: Quick = False,
    json: Figures = None,
    markdown: Table = None,
) -> None:
    """Measure the API against pgbench on a system of its own; exit 0 if every bar is reached."""
    _bench("bench_api", quick=quick, json=json, markdown=markdown)


@app.command("bench-relay")
def bench_relay(
    *,
    quick: Quick = False,
    json: Figures = None,
    markdown: Table = None,
) -> None:
    """Measure the relay against a loop without transactions; exit 0 if every bar is reached."""
    _bench("bench_relay", quick=quick, json=json, markdown=markdown)


@app.command("bench-sse")
def bench_sse(
    *,
    quick: Quick = False,
    json: Figures = None,
    markdown: Table = None,
) -> None:
    """Measure the event stream beside a stock server; exit 0 if every bar is reached."""
    _bench("bench_sse", quick=quick, json=json, markdown=markdown)


@app.command("bench-analytics")
def bench_analytics(
    *,
    quick: Quick = False,
    json: Figures = None,
    markdown: Table = None,
) -> None:
    """Measure the analytics workers beside their floors; exit 0 if every bar is reached."""
    _bench("bench_analytics", quick=quick, json=json, markdown=markdown)


def _bench(
    name: Literal["bench_api", "bench_relay", "bench_sse", "bench_analytics"],
    *,
    quick: bool,
    json: Path | None,
    markdown: Path | None,
) -> None:
    from shopstream_stack.bench import command, place  # noqa: PLC0415 - Kafka client only if needed

    settings = _settings()
    run = {
        "bench_api": command.bench_api,
        "bench_relay": command.bench_relay,
        "bench_sse": command.bench_sse,
        "bench_analytics": command.bench_analytics,
    }[name]
    # The relay's own part, and the stream's, are small beside the broker's: they wait until that
    # is at its best.
    quick_java = quick or name == "bench_api"
    with (
        reserved_ports() as ports,
        locked_system(place.bench_settings(settings, ports, quick_java=quick_java)) as system,
    ):
        code = run(system, ports, out, command.Output(json, markdown), quick=quick)
    raise typer.Exit(code)


@app.command()
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

    settings = _settings()
    kinds = [name.strip() for name in faults.split(",") if name.strip()] or list(schedule.FAULTS)
    try:
        planned = schedule.QUICK if quick else schedule.schedule(seed, minutes, kinds)
    except schedule.UnknownFault as error:
        _complain(error)
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


@app.command("serve-web", hidden=True)
def serve_web() -> None:
    """Serve the built page on PORT; `up` runs this."""
    settings = _settings()
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
    brokers = _settings().addresses["KAFKA_BROKERS"]
    kind: stream_ids.Kind = "future" if future else "evicted" if evicted else "unknown-epoch"
    print(stream_ids.unresumable(brokers, kind))  # noqa: T201 - the one line a script reads
    if evicted and not stream_ids.anything_evicted(brokers):
        typer.echo("Nothing has been evicted yet: this id, of offset 0, can be resumed.", err=True)


@topics_app.command("ls")
def topics_ls() -> None:
    """Show each topic beside what the relay uses and topics.toml says; exit 0 if all is well."""
    from shopstream_stack.topics import command  # noqa: PLC0415 - AWS's client only where needed

    settings = _settings()
    System(settings).require_up(*TOPICS_NEED)
    raise typer.Exit(command.ls(settings, out))


@topics_app.command("adopt")
def topics_adopt() -> None:
    """Go on with topics that were deleted and made again; exit 0 if everything goes on."""
    from shopstream_stack.topics import command  # noqa: PLC0415 - as above

    with locked_system(_settings()) as system:
        system.require_up(*COMPONENTS)
        code = command.adopt(system, out)
    raise typer.Exit(code)


@topics_app.command("apply")
def topics_apply(
    *,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="A reader's group not to wait for.")
    ] = None,
) -> None:
    """Give topics the partitions that topics.toml says, where those are more."""
    from shopstream_stack.topics import command  # noqa: PLC0415 - as above

    settings = _settings()
    System(settings).require_up(*TOPICS_NEED)
    raise typer.Exit(command.apply(settings, out, without or []))


Sink = Annotated[
    Literal["aggregates", "recent", "archive"], typer.Argument(help="Which of the sinks.")
]


@sinks_app.command("ls")
def sinks_ls() -> None:
    """Show each sink's checkpoints beside the log; exit 0 if the log holds all that is next."""
    from shopstream_stack import sinks  # noqa: PLC0415 - AWS's client only where needed
    from shopstream_stack.demo.target import Target  # noqa: PLC0415 - as above

    settings = _settings()
    System(settings).require_up(*SINKS_NEED)
    raise typer.Exit(sinks.ls(Target.local(settings), out))


@sinks_app.command("skip")
def sinks_skip(sink: Sink) -> None:
    """Let a sink that the log has left behind go on at the log's first record."""
    from shopstream_stack import sinks  # noqa: PLC0415 - AWS's client only where needed

    with _without_analytics() as target:
        sinks.skip(target, sink, out)


@sinks_app.command("restart")
def sinks_restart(sink: Sink) -> None:
    """Let a sink whose table is gone begin again at the log's first record."""
    from shopstream_stack import sinks  # noqa: PLC0415 - AWS's client only where needed

    with _without_analytics() as target:
        sinks.restart(target, sink, out)


@contextmanager
def _without_analytics() -> Iterator[Target]:
    """While the analytics service is stopped, where this stack runs it; then it starts again."""
    from shopstream_stack.demo.target import Target  # noqa: PLC0415 - AWS's client only where needed

    settings = _settings()
    with locked_system(settings) as system:
        system.require_up(*SINKS_NEED)
        living = system.runner.living("analytics") is not None
        if living:
            system.stop("analytics")
        try:
            yield Target.local(settings)
        finally:
            if living:
                system.start("analytics")
            else:
                out.print("Restart analytics, where it runs: it looks at its checkpoints at start.")


@archive_commands.app.command("rebuild")
def archive_rebuild(
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
    from shopstream_stack import rebuild  # noqa: PLC0415 - only where needed

    settings = _settings()
    System(settings).require_up(*SINKS_NEED)
    words = [
        *(["--compare"] if compare else []),
        *(["--swap"] if swap else []),
        *(["--accept-loss"] if accept_loss else []),
        *(["--until", until] if until else []),
        *(["--use", str(use)] if use is not None else []),
        *(["--drop"] if drop else []),
    ]
    raise typer.Exit(rebuild.run(settings, out, words, json))


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


@contextmanager
def locked_system(settings: StackSettings) -> Iterator[System]:
    """The system, with no other command at work on its data folder.

    Raises StackError when another command does not end within LOCK_SECONDS_MAX.
    """
    name = hashlib.sha256(str(settings.data).encode()).hexdigest()[:16]
    # Beside the data folder's content, which `reset` deletes while it holds the lock.
    path = settings.cache / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        with reporting(out) as reporter:
            _wait_for(lock, reporter)
            yield System(settings, reporter)
    finally:
        os.close(lock)


def _wait_for(lock: int, reporter: Reporter) -> None:
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                reporter.say("Another shopstream command is at work here; waiting for it")
                told = True
            if time.monotonic() > deadline:
                raise StackError("Another shopstream command does not come to an end") from None
            time.sleep(LOCK_POLL_SECONDS)
        else:
            return


def _prepare(system: System, names: list[str] | None = None, *, page_too: bool = True) -> None:
    needed = system.tools_of(names) + (page.tools_to_build(system.settings) if page_too else [])
    tools.require(list(dict.fromkeys(needed)))
    tasks = [lambda: system.prepare(names)]
    if page_too:
        tasks.append(lambda: page.ensure_built(system.settings, system.reporter))
    side_by_side(tasks)


def _settings() -> StackSettings:
    try:
        return StackSettings.load()
    except StackError as error:
        _complain(error)
        raise typer.Exit(EXIT_USAGE) from None


def _complain(error: Exception) -> None:
    err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
