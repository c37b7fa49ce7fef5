"""What the relay's process spends on an event of a small backlog and of a large one."""

from typing import Final

import psycopg
from confluent_kafka import KafkaException

from shopstream_stack.bench.place import Place
from shopstream_stack.bench.plan import RelayPlan
from shopstream_stack.bench.relay import drained_in
from shopstream_stack.bench.relay_rows import Rows, check
from shopstream_stack.bench.result import Point, Results, Row
from shopstream_stack.errors import StackError

LINE: Final = "relay, drain"


def measure_relay_sizes(place: Place, plan: RelayPlan, results: Results) -> None:
    """Adds a row for each size; one that fails is WRONG and ends no other.

    Raises StackError when there is nothing to begin with.
    """
    place.use("sizes")
    rows = Rows.of(place)
    place.start_relay()
    drained_in(place, rows, min(plan.warmup_rows, *plan.backlog_sizes))
    for size in plan.backlog_sizes:
        name = f"A backlog of {size:,} events: the relay"
        with place.system.reporter.step(name):
            try:
                results.rows.append(_row(place, rows, size, name))
            except (StackError, KafkaException, psycopg.Error) as error:
                results.rows.append(Row(name, {}, (), (str(error),)))


def _row(place: Place, rows: Rows, size: int, name: str) -> Row:
    used = place.relay_processor_seconds()
    seconds, wave = drained_in(place, rows, size)
    cost = 1e6 * (place.relay_processor_seconds() - used) / size
    figures = {"rate": size / seconds, "cpuMicros": cost}
    points = (Point("events", LINE, size, cost),)
    return Row(name, figures, (), tuple(check(place, wave)), points=points)
