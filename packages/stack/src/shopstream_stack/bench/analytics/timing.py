"""How soon an event can be read, how soon another worker goes on, and what a kill leaves."""

import random
import statistics
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from shopstream_stack.bench.analytics import archived
from shopstream_stack.bench.analytics.bench import Bench
from shopstream_stack.bench.analytics.events import Shop
from shopstream_stack.bench.analytics.feed import Committed, PacedFeed
from shopstream_stack.bench.analytics.peers import slow_store
from shopstream_stack.bench.analytics.place import LABEL, Place
from shopstream_stack.bench.analytics.positions import Positions, wait_stored
from shopstream_stack.bench.result import Bar, Row
from shopstream_stack.bench.waiting import deadline, wait_until

READABLE_P99_MS_MAX: Final = 500.0
TAKEOVER_SECONDS_MAX: Final = 20.0
#: After the last event.
SETTLE_SECONDS_MAX: Final = 60.0
#: The whole of a latency row.
LATENCY_SECONDS_MAX: Final = 120.0
#: Between two looks at the checkpoints; what is late by it counts as latency.
LOOK_SECONDS: Final = 0.01
#: Of the events, the first ones: connections and code are new.
FIRST_PART: Final = 0.1
#: Of the pace, what must have been kept: a latency at another one says nothing.
PACE_PART_MIN: Final = 0.95
#: Of a backlog, where the last kill comes at the latest.
KILL_PART_MAX: Final = 0.95
#: From when that point is seen to the kill; a file takes about as long.
KILL_LATER_SECONDS_MAX: Final = 0.3
SEED: Final = 1


class Timing:
    """The rows about single events and about deaths."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._plan = bench.plan
        self._place = bench.place

    def paced(self, name: str) -> Row:
        """Commit to readable, at a steady pace."""
        alone = self._bench.alone("aggregates")
        return self._latency(name, alone.positions, self._plan.transaction)

    def slow_sink(self, name: str) -> Row:
        """The same in small transactions, each write taking its time."""
        plan = self._plan
        self._bench.end()
        stores = self._place.stores()
        with (
            slow_store(stores, self._bench.ports.take(), plan.sink_delay_seconds) as endpoint,
            self._place.worker("aggregates", stores, DYNAMO_ENDPOINT=endpoint),
        ):
            positions = self._bench.positions("aggregates", stores)
            return self._latency(name, positions, plan.small_transaction)

    def _latency(self, name: str, positions: Positions, transaction: int) -> Row:
        plan = self._plan
        feed = PacedFeed(self._place.brokers, plan.products)
        with ThreadPoolExecutor(1) as beside:
            sending = beside.submit(feed.run, plan.pace, transaction, plan.pace_seconds)
            looks = _look(positions, feed, sending)
            lasted = sending.result()
        delays = delays_of(feed.committed, looks)
        delays = delays[int(len(delays) * FIRST_PART) :]
        cuts = statistics.quantiles(delays, n=100)
        figures = {"rate": len(feed.committed) / lasted, "p50Ms": cuts[49], "p95Ms": cuts[94]}
        figures |= {"p99Ms": cuts[98], "maxMs": max(delays)}
        bars = (
            Bar("p99 ms", cuts[98], "<=", READABLE_P99_MS_MAX),
            Bar("events/s", figures["rate"], ">=", plan.pace * PACE_PART_MIN),
        )
        return Row(name, figures, bars)

    def takeover(self, name: str) -> Row:
        """One of two archive workers is killed; seconds until the other has stored its events."""
        plan = self._plan
        self._bench.end()
        stores = self._place.stores()
        feed = PacedFeed(self._place.brokers, plan.products)
        positions = self._bench.hints(stores)
        with (
            self._place.worker(
                "archive", stores, alone=False, SHOPSTREAM_ARCHIVE_ROTATE_SECONDS="1"
            ) as victim,
            self._place.worker(
                "archive", stores, beside=1, alone=False, SHOPSTREAM_ARCHIVE_ROTATE_SECONDS="1"
            ),
            ThreadPoolExecutor(1) as beside,
        ):
            # A second before the kill, and a second of events that nobody has stored then.
            sending = beside.submit(feed.run, plan.takeover_pace, plan.transaction, 2.0)
            wait_until(lambda: len(positions.read()) > 0, "files are stored", SETTLE_SECONDS_MAX)
            self._place.system.runner.kill(victim.label)
            killed_at = time.monotonic()
            sending.result()
            ends = _ends(feed.committed)
            wait_until(
                lambda: _past(positions.read(), ends), "all is stored", plan.takeover_seconds_max
            )
            seconds = time.monotonic() - killed_at
        return Row(name, {"seconds": seconds}, (Bar("s", seconds, "<=", TAKEOVER_SECONDS_MAX),))

    def kills(self, name: str) -> Row:
        """The archive worker, killed at random points of a backlog; each offset once after it."""
        plan = self._plan
        self._bench.end()
        stores = self._place.stores()
        chance = random.Random(SEED)  # noqa: S311 - repeatable on purpose
        variables = {
            "SHOPSTREAM_ARCHIVE_FILE_RECORDS": str(plan.killed_file_records),
            "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS": "1",
        }
        events = Shop(plan.products).stock(plan.archive_events)
        backlog = self._bench.feed.send(events, spread_over=self._bench.stock_partitions)
        points = sorted(chance.random() * KILL_PART_MAX * backlog.events for _ in range(plan.kills))
        positions = self._bench.hints(stores)
        runner = self._place.system.runner
        label = f"{LABEL}killed"
        for point in (*points, None):
            self._place.start_worker("archive", stores, label, members=1, **variables)
            try:
                if point is None:
                    wait_stored(positions, backlog)
                else:
                    in_time = deadline(SETTLE_SECONDS_MAX, f"{point:,.0f} events are stored")
                    while backlog.done(positions.read()) < point:
                        in_time()
                    # Not only right after a file: also while the next one is read, or stored.
                    time.sleep(chance.uniform(0, KILL_LATER_SECONDS_MAX))
                    runner.kill(label)
            finally:
                runner.stop(label)
        faults = archived.faults_of(stores, backlog) + archived.chain_faults(stores)
        return Row(name, {"kills": float(plan.kills)}, (), tuple(faults))


Look = tuple[float, Mapping[Place, int]]


def _look(positions: Positions, feed: PacedFeed, sending: Future[float]) -> list[Look]:
    """Look until all that was sent is stored. Raises StackError."""
    looks: list[Look] = []
    in_time = deadline(LATENCY_SECONDS_MAX, "all events can be read")
    while True:
        ended = sending.done()
        found = positions.read()
        looks.append((time.monotonic(), found))
        if ended and _past(found, _ends(feed.committed)):
            return looks
        in_time()
        time.sleep(LOOK_SECONDS)


def delays_of(committed: Sequence[Committed], looks: Sequence[Look]) -> list[float]:
    """Milliseconds from commit to the first look that shows each event, in order of commit.

    A look has the moment at which its answer was there and the positions that it told.
    """
    seen: dict[Place, tuple[list[int], list[float]]] = {}
    for at, positions in looks:
        for place, position in positions.items():
            reached, times = seen.setdefault(place, ([], []))
            if not reached or position > reached[-1]:
                reached.append(position)
                times.append(at)
    delays = []
    for event in sorted(committed, key=lambda one: one.at):
        reached, times = seen[event.place]
        # The first position above the offset.
        delays.append(1_000 * (times[bisect_right(reached, event.offset)] - event.at))
    return delays


def _ends(committed: Sequence[Committed]) -> Mapping[Place, int]:
    ends: dict[Place, int] = {}
    for event in committed:
        ends[event.place] = max(ends.get(event.place, 0), event.offset + 1)
    return ends


def _past(positions: Mapping[Place, int], ends: Mapping[Place, int]) -> bool:
    return all(positions.get(place, 0) >= end for place, end in ends.items())
