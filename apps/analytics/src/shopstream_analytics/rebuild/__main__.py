"""``python -m shopstream_analytics.rebuild``: what `shopstream archive rebuild` runs.

On stdout a line of JSON for each step and how far it is, the last one the report. Exit 0: done, and
where it was compared nothing differs or has been swapped; 1: something differs, or it was refused,
with the reason as one line on stderr; 2: a wrong option or variable.
"""

import argparse
import shutil
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.rebuild.pool import collect_seldom
from shopstream_analytics.rebuild.run import Rebuild, Report, Wanted
from shopstream_analytics.rebuild.swap import LeftOut, swap
from shopstream_analytics.rebuild.tables import Tables
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_shared.clock import parse_time
from shopstream_shared.crash import CrashPoints
from shopstream_shared.settings import exit_usage

EXIT_FAILED: Final = 1
#: How often a line says how far it is.
PROGRESS_SECONDS: Final = 0.5


class Used(msgspec.Struct, frozen=True, rename="camel"):
    """The generation that is in use now, and the one that was."""

    generation: int
    swapped: int
    left_out: list[LeftOut]


class Dropped(msgspec.Struct, frozen=True):
    """The generations whose tables were deleted."""

    dropped: list[int]


class Lines:
    """Progress as lines of JSON."""

    def __init__(self) -> None:
        self._said_at = 0.0

    def begin(self, what: str, total: int) -> None:
        """See Progress.begin."""
        self._say({"step": what, "total": total})

    def moved(self, done: int) -> None:
        """See Progress.moved."""
        now = time.monotonic()
        if now - self._said_at >= PROGRESS_SECONDS:
            self._said_at = now
            self._say({"done": done})

    def _say(self, line: dict[str, object]) -> None:
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()


def main(words: list[str]) -> int:
    """See the module's docstring."""
    arguments = _parser().parse_args(words)
    if arguments.until is not None and arguments.compare:
        exit_usage("--until ends before the live items do: compare without it")
    settings = AnalyticsSettings.read_or_exit()
    try:
        if arguments.use is not None:
            result: Report | Used | Dropped = _use(settings, arguments)
        elif arguments.drop:
            result = _drop(settings)
        else:
            result = _rebuild(settings, arguments)
    except RebuildFailed as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_FAILED
    sys.stdout.write(msgspec.json.encode({"result": result}).decode() + "\n")
    left = isinstance(result, Report) and result.differing and result.swapped is None
    return EXIT_FAILED if left else 0


def _rebuild(settings: AnalyticsSettings, arguments: argparse.Namespace) -> Report:
    wanted = Wanted(
        compare=arguments.compare,
        swap=arguments.swap,
        accept_loss=arguments.accept_loss,
        until=arguments.until,
    )
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="shopstream-rebuild-", dir=arguments.folder))
    try:
        return Rebuild(settings, wanted, folder, Lines(), CrashPoints(settings.crash_at)).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _use(settings: AnalyticsSettings, arguments: argparse.Namespace) -> Used:
    """Make an earlier rebuild, or what was before it, the generation in use."""
    tables = Tables.of(settings)
    generation, current = arguments.use, tables.current()
    if generation == current:
        raise RebuildFailed(f"generation {generation} is in use already")
    if generation and generation not in tables.numbers():
        raise RebuildFailed(f"there is no table of generation {generation}")
    left_out = swap(settings, tables, generation, current, accept_loss=arguments.accept_loss)
    return Used(generation, current, left_out)


def _drop(settings: AnalyticsSettings) -> Dropped:
    """Delete the tables of all rebuilds that are not in use."""
    tables = Tables.of(settings)
    current = tables.current()
    unused = [number for number in tables.numbers() if number != current]
    for number in unused:
        tables.drop(number)
    return Dropped(unused)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shopstream_analytics.rebuild")
    parser.add_argument("--compare", action="store_true", help="hold the live items against it")
    parser.add_argument("--swap", action="store_true", help="let the workers go on with it")
    parser.add_argument("--accept-loss", action="store_true", help="swap to what holds less, too")
    parser.add_argument("--until", type=_moment, help="leave out what is of this time or later")
    parser.add_argument("--folder", type=Path, help="for what does not fit into memory")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--use", type=int, help="only swap: to this generation")
    other.add_argument("--drop", action="store_true", help="only delete rebuilds not in use")
    return parser


def _moment(text: str) -> datetime:
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError("is not a moment such as 2026-11-21T05:00:00Z") from None


if __name__ == "__main__":
    collect_seldom()
    raise SystemExit(main(sys.argv[1:]))
