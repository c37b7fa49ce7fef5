"""`shopstream archive rebuild`: the analytics service's own program, shown to a person.

It says on its stdout, a line of JSON each, which step begins, how far it is, and last the result.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from shopstream_stack.console import Reporter, reporting
from shopstream_stack.errors import StackError
from shopstream_stack.settings import StackSettings

MODULE: Final = "shopstream_analytics.rebuild"
#: In the data directory: where what does not fit into memory goes for a while.
FOLDER: Final = "rebuild"
#: Differences of one kind that a person is shown.
SHOWN_MAX: Final = 10
#: An archive of years is read in hours; what takes longer hangs.
SECONDS_MAX: Final = 86_400.0
LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a rebuild may take. ``stop``, set from any thread, ends it at once: for who waits
    for a thread that runs it. Nothing is lost by that: it is called again."""

    seconds: float = SECONDS_MAX
    stop: threading.Event = field(default_factory=threading.Event)


class Difference(msgspec.Struct, frozen=True):
    """An item of the live table that is not what the archive gives."""

    kind: str
    item: str
    detail: str


class Partition(msgspec.Struct, frozen=True):
    """One partition's share."""

    source: str
    next: int
    differences: list[Difference]


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """What the program did; which members there are depends on what it was asked for."""

    generation: int = 0
    table: str = ""
    events: int = 0
    unreadable: int = 0
    items: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    compared: bool = False
    live_items: int = 0
    differing: int = 0
    swapped: int | None = None
    left_out: list[tuple[str, int, int]] = []
    partitions: list[Partition] = []
    dropped: list[int] | None = None


class _Line(msgspec.Struct, frozen=True):
    step: str | None = None
    total: int = 0
    done: int | None = None
    result: msgspec.Raw = msgspec.Raw()


def run(
    settings: StackSettings,
    out: Console,
    words: Sequence[str],
    path: Path | None,
    limit: Limit | None = None,
) -> int:
    """Run it with these options, print what came of it; its exit code.

    Raises StackError when it was ended by its limit.
    """
    folder = settings.data / FOLDER
    with reporting(out) as reporter:
        code, result = call(settings, [*words, "--folder", str(folder)], reporter, limit or Limit())
    if result is None:
        return code
    if path is not None:
        path.write_text(json.dumps(json.loads(result), indent=2) + "\n", encoding="utf-8")
    show(out, msgspec.json.decode(result, type=Report))
    return code


def call(
    settings: StackSettings, words: Sequence[str], reporter: Reporter, limit: Limit
) -> tuple[int, bytes | None]:
    """Exit code and result, None where it was refused; it has said why on stderr then.

    Raises StackError when it was ended by its limit.
    """
    with subprocess.Popen(  # noqa: S603 - the argv is ours
        [sys.executable, "-m", MODULE, *words],
        env=settings.service_environ("analytics"),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        result = None
        with _limited(process, limit), _steps(reporter) as heard:
            for text in process.stdout:
                try:
                    line = msgspec.json.decode(text, type=_Line)
                except msgspec.MsgspecError as error:
                    raise StackError(
                        f"the rebuild said what nobody understands: {text!r}"
                    ) from error
                heard(line)
                if said := bytes(line.result):
                    result = said
            process.wait()
        return process.returncode, result


@contextmanager
def _limited(process: "subprocess.Popen[bytes]", limit: Limit) -> Iterator[None]:
    """The process does not outlive the block, nor its limit. Raises StackError for the latter."""
    ended, over = threading.Event(), threading.Event()

    def watch() -> None:
        end = time.monotonic() + limit.seconds
        while not ended.wait(LOOK_SECONDS):
            if limit.stop.is_set() or time.monotonic() > end:
                over.set()
                process.kill()
                return

    watcher = threading.Thread(target=watch, name="rebuild-limit", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        process.kill()  # nothing, once it has ended
    if over.is_set():
        raise StackError(f"the rebuild was ended, after {limit.seconds:g} s at most; call it again")


@contextmanager
def _steps(reporter: Reporter) -> Iterator[Callable[[_Line], None]]:
    """One step under way at a time, as the lines say."""
    with ExitStack() as running:
        advance: Callable[[int], None] | None = None
        seen = 0

        def heard(line: _Line) -> None:
            nonlocal advance, seen
            if line.step is not None:
                running.close()
                advance, seen = None, 0
                if line.total:
                    advance = running.enter_context(reporter.bar(line.step, line.total))
                else:
                    running.enter_context(reporter.step(line.step))
            elif line.done is not None and advance is not None:
                advance(line.done - seen)
                seen = line.done

        yield heard


def _differences(report: Report) -> Iterator[str]:
    """The first of each kind; a table that was emptied would fill the screen with one thing."""
    kinds: dict[str, list[Difference]] = {}
    for part in report.partitions:
        for one in part.differences:
            kinds.setdefault(one.kind, []).append(one)
    told = 0
    for kind, those in kinds.items():
        for one in those[:SHOWN_MAX]:
            yield f"{kind}: {one.item}: {one.detail}"
            told += 1
    if report.differing > told:
        yield f"and {report.differing - told:,} more; `--json` names those that were kept"


def show(out: Console, report: Report) -> None:
    """Print it for a person."""

    def say(text: str) -> None:
        out.print(text, markup=False, highlight=False, soft_wrap=True)

    if report.dropped is not None:
        dropped = ", ".join(map(str, report.dropped))
        say(f"Deleted the tables of generation {dropped}." if dropped else "Nothing was to delete.")
        return
    for source, begin, end in report.left_out:
        say(f"Left out, as was asked: {source}, offsets {begin} to {end}.")
    if not report.table:
        say(f"Generation {report.generation} is in use now, {report.swapped} was before.")
        return
    rate = report.events / max(report.processor_seconds, 1e-9)
    say(
        f"{report.events:,} events made {report.items:,} items of {report.table} in "
        f"{report.seconds:.1f} s ({rate:,.0f} events per second of processor time)."
    )
    if report.compared:
        for text in _differences(report):
            say(f"  {text}")
        say(f"{report.differing:,} of {report.live_items:,} live items differ.")
    if report.swapped is not None:
        kept = (
            "is kept until `shopstream archive rebuild --drop`"
            if report.swapped
            else "stays: `--drop` deletes rebuilds only"
        )
        say(f"The workers go on with generation {report.generation}; {report.swapped} {kept}.")
