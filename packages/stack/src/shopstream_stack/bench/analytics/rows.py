"""The rows: each starts what it needs, measures, judges, and fails alone."""

from collections.abc import Callable
from functools import partial

from shopstream_stack.bench.analytics.bench import Bench
from shopstream_stack.bench.analytics.rebuilding import rebuild
from shopstream_stack.bench.analytics.sizes import distinct_rows
from shopstream_stack.bench.analytics.throughput import Throughput
from shopstream_stack.bench.analytics.timing import Timing
from shopstream_stack.bench.result import Row


def measure_analytics(bench: Bench) -> None:
    """Every row; those about distinct products beside others of the same worker."""
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
        *distinct_rows(bench),
        (f"RecentEvents: {plan.recent_events:,} items", through.recent),
        (f"Archive: {plan.archive_events:,} events, beside Quix Streams", through.archive),
        (f"Rebuild of the aggregates from {plan.archive_events:,}", partial(rebuild, bench)),
        (f"Archive: {plan.kills} times SIGKILL in a backlog", timing.kills),
        ("Archive: one of two workers killed, s until the other has its events", timing.takeover),
        (f"The same in threes, {delay} a write", timing.slow_sink),
        (f"Memory over {plan.waves * plan.wave_events:,} events", through.memory),
    ]
    bench.add(rows)
    bench.end()
