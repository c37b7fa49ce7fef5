"""The rows: each starts what it needs, measures, judges, and fails alone."""

from collections.abc import Callable
from functools import partial

from botocore.exceptions import BotoCoreError, ClientError
from confluent_kafka import KafkaException

from shopstream_stack.bench.analytics.bench import Bench
from shopstream_stack.bench.analytics.rebuilding import rebuild
from shopstream_stack.bench.analytics.throughput import Throughput
from shopstream_stack.bench.analytics.timing import Timing
from shopstream_stack.bench.result import Row
from shopstream_stack.errors import StackError


def measure_analytics(bench: Bench) -> None:
    """Every row; one that fails is WRONG and does not end the others."""
    plan = bench.plan
    through, timing = Throughput(bench), Timing(bench)
    delay = f"{plan.sink_delay_seconds * 1_000:g} ms"
    rows: list[tuple[str, Callable[[str], Row]]] = [
        (
            f"Aggregates: {plan.aggregate_events:,} events of {plan.products:,} products",
            through.live,
        ),
        (f"Aggregates: {plan.mixed_events:,} events, orders among them", through.mixed),
        (f"Aggregates: {plan.apart_events:,} events, a product each; items", through.apart),
        (f"Commit to readable, {plan.pace:,} events/s", timing.paced),
        (f"RecentEvents: {plan.recent_events:,} items", through.recent),
        (f"Archive: {plan.archive_events:,} events, beside Quix Streams", through.archive),
        (f"Rebuild of the aggregates from {plan.archive_events:,}", partial(rebuild, bench)),
        (f"Archive: {plan.kills} times SIGKILL in a backlog", timing.kills),
        ("Archive: one of two workers killed, s until the other has its events", timing.takeover),
        (f"The same in threes, {delay} a write", timing.slow_sink),
        (f"Memory over {plan.waves * plan.wave_events:,} events", through.memory),
    ]
    for name, measure in rows:
        with bench.place.system.reporter.step(name):
            try:
                row = measure(name)
            except (StackError, KafkaException, ClientError, BotoCoreError) as error:
                bench.end()
                row = Row(name, {}, (), (str(error) or type(error).__name__,))
            bench.results.rows.append(row)
    bench.end()
