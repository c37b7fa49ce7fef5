"""How many events a core stores: aggregates, RecentEvents, the archive; memory meanwhile."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final

from shopstream_shared.events.codec import EncodedEvent
from shopstream_stack.bench.analytics import archived
from shopstream_stack.bench.analytics.bench import Bench
from shopstream_stack.bench.analytics.counting import counted
from shopstream_stack.bench.analytics.events import Shop
from shopstream_stack.bench.analytics.peers import Quix, bare_rates
from shopstream_stack.bench.analytics.place import Stores
from shopstream_stack.bench.analytics.positions import stored, wait_stored
from shopstream_stack.bench.result import Bar, Row

AGGREGATED_MIN: Final = 30_000.0
#: To a bare loop of the same statements in the same run.
BARE_RATIO_MIN: Final = 0.8
QUIX_RATIO_MIN: Final = 3.0
MIB_MAX: Final = 200.0
GROWTH_MAX: Final = 0.05
#: Of the bare loops: more of them would only take longer.
BARE_ITEMS_MAX: Final = 30_000


class Throughput:
    """The rows about backlogs."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._plan = bench.plan
        self._place = bench.place

    def live(self, name: str) -> Row:
        """All events of the same few products, in all partitions of stock."""
        plan = self._plan
        return self._aggregates(name, Shop(plan.products).stock(plan.aggregate_events), judged=True)

    def mixed(self, name: str) -> Row:
        """Orders of several lines with their stock."""
        plan = self._plan
        return self._aggregates(name, Shop(plan.products).mixed(plan.mixed_events), judged=False)

    def _aggregates(self, name: str, events: Iterable[EncodedEvent], *, judged: bool) -> Row:
        found, faults = counted(self._bench, events)
        bars = [Bar("MiB", found.peak_mib, "<=", MIB_MAX)]
        if judged:
            bars.insert(0, Bar("events/s", found.rate, ">=", AGGREGATED_MIN))
        return Row(name, found.figures(), tuple(bars), tuple(faults))

    def apart(self, name: str) -> Row:
        """Statements, as there are about two of them an event; those of a bare loop beside them."""
        plan = self._plan
        stores = self._bench.alone("aggregates").stores
        table = stores.target.aggregates_table
        before = self._items(stores, table)
        new = Shop(plan.apart_events, first=plan.products)
        found, faults = counted(self._bench, new.stock(plan.apart_events))
        items = self._items(stores, table) - before
        rates = bare_rates(self._place, stores, "updates", table, BARE_ITEMS_MAX)
        for form, rate in rates.items():
            self._bench.results.notes.append(f"{name}: bare loop, {form}: {rate:,.0f} items/s")
        rate, floor = items / found.seconds, max(rates.values())
        figures = {**found.figures(), "rate": rate, "floor": floor, "ratio": rate / floor}
        figures["eventsPerSecond"] = found.rate
        bars = (Bar("ratio", figures["ratio"], ">=", BARE_RATIO_MIN),)
        return Row(name, figures, bars, tuple(faults))

    def recent(self, name: str) -> Row:
        """Items of RecentEvents, beside a bare loop of the same puts."""
        plan = self._plan
        alone = self._bench.alone("recent")
        stores, table = alone.stores, alone.stores.target.recent_events_table
        before = self._items(stores, table)
        events = Shop(plan.products).stock(plan.recent_events)
        found = alone.stored(lambda: self._bench.feed.send(events))
        there = self._items(stores, table) - before
        faults = [] if there == found.events else [f"{there:,} items of {found.events:,} events"]
        floor = max(bare_rates(self._place, stores, "puts", table, BARE_ITEMS_MAX).values())
        figures = {**found.figures(), "floor": floor, "ratio": found.rate / floor}
        bars = (
            Bar("ratio", found.rate / floor, ">=", BARE_RATIO_MIN),
            Bar("MiB", found.peak_mib, "<=", MIB_MAX),
        )
        return Row(name, figures, bars, tuple(faults))

    def archive(self, name: str) -> Row:
        """The same backlog by the archive worker and by Quix Streams' S3 file sink."""
        plan = self._plan
        self._bench.end()
        stores = self._place.stores()
        worker = self._place.worker(
            "archive",
            stores,
            SHOPSTREAM_ARCHIVE_FILE_RECORDS=str(plan.file_records),
            # The last file of a partition is seldom full: its age cuts it.
            SHOPSTREAM_ARCHIVE_ROTATE_SECONDS="1",
        )
        with worker as process:
            used = process.processor_seconds
            events = Shop(plan.products).stock(plan.archive_events)
            backlog = self._bench.feed.send(events, spread_over=self._bench.stock_partitions)
            ours = stored(process, self._bench.hints(stores), backlog, used)
        self._bench.archive = stores, backlog
        faults = archived.faults_of(stores, backlog) + archived.chain_faults(stores)
        quix = Quix(self._place, tuple(backlog.ends))
        with quix.running(
            stores, commit_every=plan.file_records * self._bench.stock_partitions
        ) as q:
            theirs = stored(q, quix, self._bench.again(backlog), q.processor_seconds)
        ratio = ours.per_core / theirs.per_core if theirs.per_core else 0.0
        figures = {
            **ours.figures(),
            "floor": theirs.per_core,
            "ratio": ratio,
            "peerMib": theirs.peak_mib,
            "peerRate": theirs.rate,
        }
        self._bench.results.notes.append(
            f"{name}: floor and ratio are of a core's second; by the clock Quix Streams stored "
            f"{theirs.rate:,.0f} events/s, with {theirs.peak_mib:.0f} MiB"
        )
        bars = (
            Bar("a core's second, ratio", ratio, ">=", QUIX_RATIO_MIN),
            Bar("MiB", ours.peak_mib, "<=", min(MIB_MAX, theirs.peak_mib)),
        )
        return Row(name, figures, bars, tuple(faults))

    def memory(self, name: str) -> Row:
        """Aggregates and archive over many waves: what they need does not grow."""
        plan = self._plan
        self._bench.end()
        stores = self._place.stores()
        shop, growth, peaks = Shop(plan.products), {}, {}
        with ExitStack() as stack:
            workers = {
                one: stack.enter_context(
                    self._place.worker(
                        one,
                        stores,
                        alone=False,
                        SHOPSTREAM_ARCHIVE_ROTATE_SECONDS=str(plan.wave_rotate_seconds),
                    )
                )
                for one in ("aggregates", "archive")
            }
            seen: dict[str, list[float]] = {one: [] for one in workers}
            for _ in range(plan.waves):
                backlog = self._bench.feed.send(shop.stock(plan.wave_events))
                for one, worker in workers.items():
                    wait_stored(self._bench.positions(one, stores), backlog)
                    seen[one].append(worker.mib)
            for one, worker in workers.items():
                growth[one] = seen[one][-1] / seen[one][plan.first_waves - 1] - 1
                peaks[one] = worker.peak_mib
        self._bench.results.notes.append(
            f"{name}: " + ", ".join(f"{k} {peaks[k]:.0f} MiB, {v:+.1%}" for k, v in growth.items())
        )
        bars = (
            Bar("growth", max(growth.values()), "<=", GROWTH_MAX),
            Bar("MiB", max(peaks.values()), "<=", MIB_MAX),
        )
        return Row(name, {"mib": max(peaks.values()), "growth": max(growth.values())}, bars)

    def _items(self, stores: Stores, table: str) -> int:
        pages = stores.dynamo.get_paginator("scan").paginate(
            TableName=table, ConsistentRead=True, Select="COUNT"
        )
        return sum(page["Count"] for page in pages)
