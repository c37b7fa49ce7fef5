"""What the workers spend on an event: over more of them, and over more products they are about."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

from shopstream_stack.bench.analytics import archived
from shopstream_stack.bench.analytics.bench import Bench
from shopstream_stack.bench.analytics.counting import counted, events_of
from shopstream_stack.bench.analytics.events import Shop
from shopstream_stack.bench.analytics.place import WorkerProcess
from shopstream_stack.bench.analytics.positions import wait_stored
from shopstream_stack.bench.result import Point, Row

#: Above those of all other rows: what these count is new.
FIRST_PRODUCT: Final = 1_000_000


def distinct_rows(bench: Bench) -> list[tuple[str, Callable[[str], Row]]]:
    """A row for each number of products that a backlog is about; all by one aggregates worker."""
    plan = bench.plan
    first = FIRST_PRODUCT
    rows: list[tuple[str, Callable[[str], Row]]] = []
    for products in plan.distinct:
        name = f"{plan.distinct_events:,} events of {products:,} products: aggregates"
        rows.append((name, partial(_distinct, bench, products, first)))
        first += products
    return rows


def _distinct(bench: Bench, products: int, first: int, name: str) -> Row:
    found, faults = counted(bench, Shop(products, first=first).stock(bench.plan.distinct_events))
    cost = 1e6 / found.per_core if found.per_core else 0.0
    points = (Point("distinct", "aggregates worker", products, cost),)
    figures = {**found.figures(), "cpuMicros": cost}
    return Row(name, figures, (), tuple(faults), points=points)


def measure_backlogs(bench: Bench) -> None:
    """Adds a row for each size, both workers on it at once: their processor time is their own.

    Raises StackError.
    """
    plan = bench.plan
    names = ("aggregates", "archive")
    stores = bench.place.stores()
    shop = Shop(plan.products)
    with ExitStack() as stack:
        workers: dict[str, WorkerProcess] = {
            one: stack.enter_context(
                bench.place.worker(one, stores, alone=False, SHOPSTREAM_ARCHIVE_ROTATE_SECONDS="1")
            )
            for one in names
        }
        positions = {one: bench.positions(one, stores) for one in names}

        def measure(size: int, name: str) -> Row:
            used = {one: worker.processor_seconds for one, worker in workers.items()}
            there = events_of(stores)
            backlog = bench.feed.send(shop.stock(size))
            costs: dict[str, float] = {}
            for one, worker in workers.items():
                wait_stored(positions[one], backlog)
                costs[one] = 1e6 * (worker.processor_seconds - used[one]) / size
            faults = archived.chain_faults(stores)
            if (more := events_of(stores) - there) != size:
                faults.append(f"{more:,} events are counted of {size:,}")
            points = tuple(
                Point("events", f"{one} worker", size, cost) for one, cost in costs.items()
            )
            figures = {"cpuMicros": costs["aggregates"], "archiveCpuMicros": costs["archive"]}
            return Row(name, figures, (), tuple(faults), points=points)

        if plan.warmup_events:
            measure(plan.warmup_events, "")
        bench.add(
            [
                (f"A backlog of {size:,} events: aggregates and archive", partial(measure, size))
                for size in plan.backlog_sizes
            ],
        )
