"""The demo's table: step, expected, seen, verdict; then the latency and the pages to open."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from shopstream_stack.demo.evidence import Key, WatcherReading
from shopstream_stack.demo.judge import FAULTS_SHOWN_MAX, Row
from shopstream_stack.demo.rest import Rest


@dataclass(frozen=True, slots=True)
class Latency:
    """From the start of the POST to the event in the browser, in milliseconds."""

    deliveries: int
    p50: float
    p99: float


def rest_rows(rest: Rest) -> list[Row]:
    """What REST answered, against the statuses wanted and against the model."""
    total = rest.accepted + rest.refused
    wrong = len(rest.faults) + len(rest.oracle.surprises)
    return [
        Row(
            "REST: requests, answered as they must be",
            f"{total}, of them {rest.refused} refused",
            f"{total - len(rest.faults)} so, {wrong} otherwise" if wrong else "all so",
            (*rest.faults, *rest.oracle.surprises),
        )
    ]


def latency_of(watchers: Iterable[WatcherReading], sent_at: Mapping[Key, float]) -> Latency | None:
    """Over every delivery on a connection that was live all the time; None without any.

    A resumed connection's events waited for the client, not the other way round.
    """
    taken = sorted(
        (receipt.at - sent_at[receipt.event.key]) * 1_000
        for watcher in watchers
        for receipt in watcher.receipts
        if receipt.connection == 1 and receipt.event.key in sent_at
    )
    if not taken:
        return None
    return Latency(len(taken), percentile(taken, 50), percentile(taken, 99))


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of a sorted, non-empty sequence."""
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]


def show(console: Console, rows: Sequence[Row], latency: Latency | None) -> None:
    """Print the table, the faults of each row that does not hold, and the latency."""
    table = Table(title="What arrived where", title_justify="left")
    for column in ("step", "expected", "seen", "verdict"):
        table.add_column(column, overflow="fold")
    for row in rows:
        verdict = "[green]holds[/]" if row.holds else "[bold red]WRONG[/]"
        table.add_row(row.step, row.expected, row.seen, verdict)
    console.print(table)
    for row in rows:
        for fault in row.faults[:FAULTS_SHOWN_MAX]:
            console.print(f"  {row.step}: {fault}", style="red", markup=False, highlight=False)
        if (more := len(row.faults) - FAULTS_SHOWN_MAX) > 0:
            console.print(f"  {row.step}: and {more} more", style="red", markup=False)
    if latency is not None:
        console.print(
            f"From POST to browser, {latency.deliveries} deliveries: "
            f"p50 {latency.p50:.1f} ms, p99 {latency.p99:.1f} ms",
            highlight=False,
        )
