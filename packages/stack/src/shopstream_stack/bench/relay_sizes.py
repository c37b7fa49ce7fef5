"""What the relay's process spends on an event of a small backlog and of a large one."""

from typing import Final

from shopstream_stack.bench.place import Place
from shopstream_stack.bench.plan import RelayPlan
from shopstream_stack.bench.relay import drained_in
from shopstream_stack.bench.relay_rows import Rows, check
from shopstream_stack.bench.result import Point, Results, Row

LINE: Final = "relay, drain"


def measure_relay_sizes(place: Place, plan: RelayPlan, results: Results) -> None:
    """Adds a row for each size. Raises StackError."""
    place.use("sizes")
    rows = Rows.of(place)
    place.start_relay()
    drained_in(place, rows, min(plan.warmup_rows, *plan.backlog_sizes))
    for size in plan.backlog_sizes:
        name = f"A backlog of {size:,} events: the relay"
        with place.system.reporter.step(name):
            used = place.relay_processor_seconds()
            seconds, wave = drained_in(place, rows, size)
            cost = 1e6 * (place.relay_processor_seconds() - used) / size
            faults = check(place, wave)
        points = (Point("events", LINE, size, cost),)
        figures = {"rate": size / seconds, "cpuMicros": cost}
        results.rows.append(Row(name, figures, (), tuple(faults), points=points))
