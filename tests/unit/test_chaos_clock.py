"""A program's clock is moved while it runs, and nothing else of it."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from shopstream_shared.clock import SystemClock, parse_time
from shopstream_stack.chaos import clock

PROGRAM = """
import sys, time
from shopstream_shared.clock import SystemClock, Uuid7Source, format_time
begun = time.monotonic()
for line in sys.stdin:
    steady = time.monotonic() - begun < 60
    ids = [Uuid7Source().new_id() for _ in range(2)]
    print(format_time(SystemClock().now()), steady, *ids, *sys.argv[1:], flush=True)
"""
DAYS_40 = timedelta(days=40)


def test_the_clock_of_a_running_program_goes_forwards_backwards_and_right_again(
    tmp_path: Path,
) -> None:
    file, program = tmp_path / "clocks" / "api", tmp_path / "program.py"
    program.write_text(PROGRAM)
    clock.move(file, 0.0)
    child = subprocess.Popen(
        clock.under(file, (str(program), "relay")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        for ahead in (timedelta(), DAYS_40, -timedelta(days=6), timedelta()):
            clock.move(file, ahead.total_seconds())
            child.stdin.write("now\n")
            child.stdin.flush()
            moment, steady, *ids, argument = child.stdout.readline().split()
            off = parse_time(moment) - datetime.now(UTC) - ahead
            assert abs(off) < timedelta(minutes=1), ahead
            # An order's id decides its month's partition and its place in lists.
            assert len(set(ids)) == 2
            for each in map(UUID, ids):
                made = datetime.fromtimestamp((each.int >> 80) / 1_000, UTC)
                assert abs(made - datetime.now(UTC) - ahead) < timedelta(minutes=1), ahead
                assert each.version == 7
            # Durations go on as they were, and the program has its own arguments.
            assert (steady, argument) == ("True", "relay")
        child.stdin.close()


def test_whoever_is_not_started_by_it_has_the_machine_s_clock() -> None:
    assert SystemClock.now.__module__ == "shopstream_shared.clock"
    assert clock.under(Path("f"), ("p", "a"))[0] == sys.executable
