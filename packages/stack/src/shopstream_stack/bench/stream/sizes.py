"""What the stream service spends on a delivery, and on a connection, as there are more of them."""

from typing import Final

from confluent_kafka import KafkaException

from shopstream_stack.bench.result import Point, Results, Row
from shopstream_stack.bench.stream.feed import Feed
from shopstream_stack.bench.stream.memory import connection_kib
from shopstream_stack.bench.stream.place import StreamPlace
from shopstream_stack.bench.stream.plan import StreamPlan
from shopstream_stack.bench.stream.steps import figures, refuse, step
from shopstream_stack.errors import StackError

LINES: Final = 30
DELIVERY: Final = "one delivery"
#: Of the pace's time, what is sent first: code and connections are new.
WARMUP: Final = 0.2


def measure_stream_sizes(place: StreamPlace, plan: StreamPlan, results: Results) -> None:
    """Adds a row for each number of connections; one that fails is WRONG and ends no other."""
    for connections in plan.sizes:
        name = f"Cost at {connections:,} connections, {plan.size_pace[0]:g} events/s"
        with place.system.reporter.step(name):
            try:
                results.rows.append(_row(place, plan, connections, name))
            except (StackError, KafkaException) as error:
                place.stop()
                results.rows.append(Row(name, {}, (), (str(error),)))


def _row(place: StreamPlace, plan: StreamPlan, connections: int, name: str) -> Row:
    place.serve(plan.few, fresh=True)
    kib = connection_kib(place, plan, _feed(place), connections)
    rate, seconds = plan.size_pace
    feed = _feed(place)
    with place.streams(connections) as streams:
        refuse(step(streams, feed, rate, seconds * WARMUP).report.faults)
        used = place.processor_seconds()
        report = step(streams, feed, rate, seconds).report
        used = place.processor_seconds() - used
    cost = 1e6 * used / report.deliveries if report.deliveries else 0.0
    points = [Point("connections", DELIVERY, connections, cost)]
    if kib > 0:
        # Of few connections the allocator may have had the room already.
        points.append(Point("connections", "memory a connection", connections, kib))
    found = {**figures(report), "cpuMicros": cost, "kib": kib}
    return Row(name, found, (), tuple(report.faults), points=tuple(points))


def _feed(place: StreamPlace) -> Feed:
    return Feed(place.brokers, lines=LINES, sellers=LINES)
