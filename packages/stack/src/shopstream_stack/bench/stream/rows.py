"""The rows: each starts what it needs, measures, judges, and fails alone."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from confluent_kafka import KafkaException

from shopstream_stack.bench.result import Bar, Results, Row
from shopstream_stack.bench.stream import stock
from shopstream_stack.bench.stream.feed import Feed, of_seller, of_types, type_filters
from shopstream_stack.bench.stream.memory import FIRST_CONNECTIONS, calm_kib, connection_kib
from shopstream_stack.bench.stream.place import PATH, StreamPlace
from shopstream_stack.bench.stream.plan import StreamPlan
from shopstream_stack.bench.stream.steps import (
    SETTLE_SECONDS_MAX,
    Climb,
    Step,
    busy_note,
    everything,
    figures,
    refuse,
    step,
)
from shopstream_stack.errors import StackError
from shopstream_stack.kit.generator import Sequences, StreamGroup
from shopstream_stack.ports import PortReservations

IDLE_KIB_MAX: Final = 11.0
RATE_MIN: Final = 1_000_000.0
RATE_P99_MS_MAX: Final = 60.0
FILTERED_RATE_MIN: Final = 500_000.0
#: By events a second: p50 and p99 in milliseconds.
LATENCY_MS_MAX: Final = {10.0: (8.0, 18.0), 50.0: (5.0, 12.0)}
WORKERS_P99_MS_MAX: Final = 100.0
RESUMED_SECONDS_MAX: Final = 15.0
BYSTANDERS_P99_MS_MAX: Final = 250.0
SLOW_RATIO_MAX: Final = 1.2
STOCK_RATE_RATIO_MIN: Final = 20.0
STOCK_MEMORY_RATIO_MAX: Final = 0.35
#: The stock server's rate counts as long as it keeps up at all.
STOCK_P99_MS_MAX: Final = 1_000.0
#: At these paces one thread reads all in time; a second one would only be woken more often, at the
#: server's expense.
PACE_POLLERS: Final = 1
LINES: Final = 30
#: Of the pace's time, what passes before clients are cut.
CUT_AFTER: Final = 0.15


@dataclass(slots=True)
class StreamBench:
    """All rows of one run."""

    place: StreamPlace
    ports: PortReservations
    plan: StreamPlan
    results: Results
    #: The best rate and the memory of a connection, for the ratios to the stock server's.
    rate: float = 0.0
    kib: float = 0.0
    _warm: set[tuple[int, ...]] = field(default_factory=set)

    def run(self) -> None:
        """Every row; one that fails is WRONG and does not end the others."""
        plan = self.plan
        many, shared = f"{plan.connections:,} connections", f"{plan.workers} workers"
        selective = f"{plan.selective_connections:,} connections, {shared}"
        broad = f"{plan.broad_connections:,} connections, {shared}"
        rows: list[tuple[str, Callable[[str], None]]] = [
            *((f"{n:,} idle connections", self._idle_of(n)) for n in plan.idle),
            (f"{many}, ids of {sum(plan.few)} partitions", self._few),
            *((f"{many}, {rate:g} events/s", self._pace_of(rate, s)) for rate, s in plan.paces),
            (f"{plan.slow} of {many} do not read", self._slow),
            (f"{many}, {plan.filters} filters", self._filtered),
            (f"{plan.cut:,} cut at once, beside {plan.bystanders:,}", self._cut),
            (f"{many}, ids of {sum(plan.many)} partitions", self._many),
            ("Beside stock sse-starlette, a queue a client", self._stock),
            (f"{selective}, one in {plan.selective_filters} matches", self._selective),
            (f"{broad}, {plan.broad_pace[0]:g} events/s", self._broad),
        ]
        for name, measure in rows:
            with self.place.system.reporter.step(name):
                try:
                    measure(name)
                except (StackError, KafkaException) as error:
                    self.place.stop()
                    self.results.rows.append(Row(name, {}, (), (str(error),)))

    def _feed(self, *, lines: int = LINES, sellers: int = LINES) -> Feed:
        return Feed(self.place.brokers, lines=lines, sellers=sellers)

    def _serve(self, partitions: tuple[int, ...], *, workers: int = 1, fresh: bool = False) -> None:
        """The service, with broker and service warmed up for what it is to do."""
        self.place.serve(partitions, workers=workers, fresh=fresh)
        plan = self.plan
        if not self._warm:
            # The broker's code is compiled by then: before, it alone takes several milliseconds.
            self._warm_up(FIRST_CONNECTIONS, plan.broker_warmup_rate, plan.broker_warmup_seconds)
        mark = (*partitions, workers)
        if mark not in self._warm:
            self._warm_up(plan.connections, plan.warmup_rate, plan.warmup_seconds)
            self._warm.add(mark)

    def _warm_up(self, connections: int, rate: float, seconds: float) -> None:
        with self.place.streams(connections) as streams:
            warmed = step(streams, self._feed(), rate, seconds)
        if warmed.report.misses:
            raise StackError("; ".join(warmed.report.faults))

    def _add(
        self,
        name: str,
        found: Mapping[str, float],
        bars: Sequence[Bar],
        faults: Sequence[str],
        note: str = "",
    ) -> None:
        self.results.rows.append(Row(name, found, tuple(bars), tuple(faults), note))
        if note:
            self.results.notes.append(f"{name}: {note}")

    def _idle_of(self, connections: int) -> Callable[[str], None]:
        def measure(name: str) -> None:
            self.place.serve(self.plan.few, fresh=True)
            kib = connection_kib(self.place, self.plan, self._feed(), connections)
            self.kib = self.kib or kib
            self._add(name, {"kib": kib}, (Bar("KiB each", kib, "<=", IDLE_KIB_MAX),), ())

        return measure

    def _few(self, name: str) -> None:
        best = self._highest(name, self.plan.few)
        self.rate = best

    def _many(self, name: str) -> None:
        self._highest(name, self.plan.many)

    def _highest(self, name: str, partitions: tuple[int, ...]) -> float:
        self._serve(partitions)
        plan = self.plan
        with self.place.streams(plan.connections) as streams:
            climb = self._climb(RATE_P99_MS_MAX)
            climb.run(streams, self._feed(), plan.rates, plan.step_seconds)
        return self._add_climb(name, climb, RATE_MIN)

    def _climb(self, p99_ms_max: float) -> Climb:
        return Climb(p99_ms_max if self.plan.judged else math.inf, self.plan.tries)

    def _add_climb(self, name: str, climb: Climb, rate_min: float) -> float:
        found = climb.figures()
        bars = (Bar(f"a second at p99 <= {RATE_P99_MS_MAX:g} ms", found["rate"], ">=", rate_min),)
        best = climb.best
        note = "" if best is None else busy_note(best.report)
        self._add(name, found, bars, climb.faults, note)
        return found["rate"]

    def _filtered(self, name: str) -> None:
        self._serve(self.plan.few)
        plan = self.plan
        filters = type_filters(plan.filters)
        groups = [StreamGroup(name=one, path=f"{PATH}?types={quote(one)}") for one in filters]

        def expected(feed: Feed) -> Mapping[str, Sequences]:
            return {one: feed.expected(of_types(one.split(","))) for one in filters}

        with self.place.streams(plan.connections, groups) as streams:
            climb = self._climb(RATE_P99_MS_MAX)
            climb.run(streams, self._feed(), plan.filtered_rates, plan.step_seconds, expected)
        self._add_climb(name, climb, FILTERED_RATE_MIN)

    def _pace_of(self, rate: float, seconds: float) -> Callable[[str], None]:
        def measure(name: str) -> None:
            self._serve(self.plan.few)
            with self.place.streams(self.plan.connections, pollers=PACE_POLLERS) as streams:
                one = step(streams, self._feed(), rate, seconds)
            steady = one.report.steady
            found = zip(("p50 ms", "p99 ms"), (steady.p50_ms, steady.p99_ms), strict=True)
            bars = [
                Bar(*pair, "<=", limit)
                for pair, limit in zip(found, LATENCY_MS_MAX.get(rate, ()), strict=False)
            ]
            self._add(name, figures(one.report), bars, one.report.faults)

        return measure

    def _selective(self, name: str) -> None:
        plan = self.plan
        self._serve(plan.many, workers=plan.workers)
        sellers = [f"s{n:03}" for n in range(plan.selective_filters)]
        groups = [StreamGroup(name=one, path=f"{PATH}?sellerId={one}") for one in sellers]

        def expected(feed: Feed) -> Mapping[str, Sequences]:
            return {one: feed.expected(of_seller(one)) for one in sellers}

        feed = self._feed(lines=len(sellers), sellers=len(sellers))
        with self.place.streams(plan.selective_connections, groups) as streams:
            self._add_paced(name, step(streams, feed, *plan.selective_pace, expected))

    def _broad(self, name: str) -> None:
        plan = self.plan
        self._serve(plan.many, workers=plan.workers)
        with self.place.streams(plan.broad_connections) as streams:
            self._add_paced(name, step(streams, self._feed(), *plan.broad_pace))

    def _add_paced(self, name: str, one: Step) -> None:
        bars = (Bar("p99 ms", one.report.steady.p99_ms, "<=", WORKERS_P99_MS_MAX),)
        self._add(name, figures(one.report), bars, one.report.faults, busy_note(one.report))

    def _cut(self, name: str) -> None:
        plan = self.plan
        self._serve(plan.few)
        rate, seconds = plan.cut_pace
        with self.place.streams(plan.cut + plan.bystanders) as streams:
            feed = self._feed()
            refuse(step(streams, feed, rate, 1 / rate).report.faults)
            streams.begin()
            with ThreadPoolExecutor(1) as beside:
                sent = beside.submit(feed.run, rate, seconds)
                time.sleep(seconds * CUT_AFTER)
                streams.cut(plan.cut)
            sent.result()
            report = streams.settle(everything(feed), SETTLE_SECONDS_MAX)
        back = report.resumed.max_ms / 1_000
        bars = (
            Bar("resumed in s", back, "<=", RESUMED_SECONDS_MAX),
            Bar("bystanders' p99 ms", report.steady.p99_ms, "<=", BYSTANDERS_P99_MS_MAX),
        )
        faults = list(report.faults)
        if not faults and report.resumed.count != plan.cut:
            faults.append(f"{report.resumed.count} of {plan.cut} have come back")
        self._add(name, {**figures(report), "seconds": back}, bars, faults)

    def _slow(self, name: str) -> None:
        plan = self.plan
        self._serve(plan.few)
        without: list[float] = []
        beside: list[Step] = []
        faults: list[str] = []
        with self.place.streams(plan.connections, slow=plan.slow) as streams:
            feed = self._feed()
            for _ in range(plan.slow_rounds):
                calm = step(streams, feed, *plan.slow_pace)
                without.append(calm.report.steady.p99_ms)
                streams.stall()
                beside.append(step(streams, feed, *plan.slow_pace))
                streams.release()
                # What they have missed comes now, once.
                after = streams.settle(everything(feed), SETTLE_SECONDS_MAX)
                faults += [*calm.report.faults, *after.faults]
        p99 = statistics.median(one.report.steady.p99_ms for one in beside)
        ratio = p99 / statistics.median(without)
        found = {**figures(beside[-1].report), "p99Ms": p99, "ratio": ratio}
        found["withoutP99Ms"] = statistics.median(without)
        bars = (Bar("p99 to that without", ratio, "<=", SLOW_RATIO_MAX),)
        self._add(name, found, bars, faults)

    def _stock(self, name: str) -> None:
        plan = self.plan
        with stock.stock_serving(self.place, self.ports) as (pid, port):
            with stock.stock_streams(self.place, port, FIRST_CONNECTIONS) as first:
                step(first, self._feed(), plan.paces[0][0], plan.step_seconds)
                before = calm_kib(self.place, plan, pid)
                with stock.stock_streams(self.place, port, plan.connections) as streams:
                    refuse(streams.opened.faults)
                    kib = (calm_kib(self.place, plan, pid) - before) / plan.connections
            with stock.stock_streams(self.place, port, plan.connections) as streams:
                climb = self._climb(STOCK_P99_MS_MAX)
                climb.run(streams, self._feed(), plan.stock_rates, plan.step_seconds)
        found = climb.figures()
        rate = found["rate"]
        faults = list(climb.faults)
        if not rate or not self.rate or (plan.judged and min(self.kib, kib) <= 0):
            faults.append("there is nothing to compare")
            self._add(name, {**found, "kib": kib}, (), faults)
            return
        ratio, memory = self.rate / rate, self.kib / kib if kib else 0.0
        bars = (
            Bar("ours / its rate", ratio, ">=", STOCK_RATE_RATIO_MIN),
            Bar("our / its memory", memory, "<=", STOCK_MEMORY_RATIO_MAX),
        )
        beside = {"rate": self.rate, "floor": rate, "ratio": ratio, "kib": self.kib}
        beside |= {"peerKib": kib, "memoryRatio": memory}
        note = f"it held {found.get('p99Ms', 0):.1f} ms at p99, and took {kib:.1f} KiB a connection"
        self._add(name, beside, bars, faults, note)
