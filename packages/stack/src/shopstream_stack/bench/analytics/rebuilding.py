"""How fast the aggregates are made again from an archive, without Kafka."""

import subprocess
import sys
from typing import Final

import msgspec

from shopstream_stack.bench.analytics.bench import Bench
from shopstream_stack.bench.result import Bar, Row
from shopstream_stack.errors import StackError

#: Events a second of processor time: the program may use several processes.
REBUILT_MIN: Final = 50_000.0
REBUILD_SECONDS_MAX: Final = 300.0
MODULE: Final = "shopstream_analytics.rebuild"


class _Result(msgspec.Struct, frozen=True, rename="camel"):
    events: int
    items: int
    seconds: float
    processor_seconds: float


class _Line(msgspec.Struct, frozen=True):
    result: _Result | None = None


def rebuild(bench: Bench, name: str) -> Row:
    """The program behind `shopstream archive rebuild` over what the archive row has stored.

    Raises StackError.
    """
    if bench.archive is None:
        raise StackError("there is no archive to rebuild from")
    stores, backlog = bench.archive
    folder = bench.place.system.settings.data / "rebuild"
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", MODULE, "--folder", str(folder)],
            env=dict(stores.variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=REBUILD_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"no rebuild within {REBUILD_SECONDS_MAX:g} s") from error
    lines = [msgspec.json.decode(line, type=_Line) for line in done.stdout.splitlines()]
    result = next((line.result for line in reversed(lines) if line.result is not None), None)
    if done.returncode or result is None:
        raise StackError(f"the rebuild failed: {done.stderr.decode(errors='replace')[-500:]}")
    per_core = result.events / result.processor_seconds
    faults = []
    if result.events != backlog.events:
        faults.append(f"{result.events:,} events are in it of {backlog.events:,}")
    figures = {"rate": result.events / result.seconds, "perCore": per_core}
    return Row(name, figures, (Bar("a core's second", per_core, ">=", REBUILT_MIN),), tuple(faults))
