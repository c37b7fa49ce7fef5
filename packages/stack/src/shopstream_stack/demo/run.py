"""One run of the demo against a system that is up."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from shopstream_shared.clock import Clock
from shopstream_stack.console import Reporter
from shopstream_stack.demo.archive_reader import ArchiveReader
from shopstream_stack.demo.collect import Beginning, Collector, Readers
from shopstream_stack.demo.crowd import Crowd, demo_readings, watching
from shopstream_stack.demo.evidence import Readback, SeenEvent, WatcherReading
from shopstream_stack.demo.judge import Row, judge
from shopstream_stack.demo.log_reader import LogReader
from shopstream_stack.demo.oracle import Oracle
from shopstream_stack.demo.read_api import ReadApi
from shopstream_stack.demo.report import Latency, latency_of, rest_rows
from shopstream_stack.demo.rest import REQUEST_SECONDS_MAX, SEED_ADDRESS, Rest
from shopstream_stack.demo.scenario import sellers_of, steady, tell_all
from shopstream_stack.demo.table_reader import TableReader
from shopstream_stack.demo.target import Target
from shopstream_stack.journal import Journal

#: The seller of the guide's curl: anyone may have used that name before us.
SEED_SELLER: Final = "seller1"

Plant = Callable[[Readback], Readback]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run needs to know. ``plant`` changes what was read back: tests put faults there."""

    target: Target
    run: str
    journals: Path
    clock: Clock
    reporter: Reporter
    curl: str | None
    plant: Plant | None = None


@dataclass(slots=True)
class Session:
    """A run under way: everything that drives the system and everything that watches it."""

    rest: Rest
    oracle: Oracle
    crowd: Crowd
    collector: Collector


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run found."""

    rows: list[Row]
    latency: Latency | None
    journal: Path
    late: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return all(row.holds for row in self.rows)


async def demonstrate(plan: Plan) -> Outcome:
    """Drive the system, read everything back, judge.

    Raises NotOpen, CurlFailed, httpx.HTTPError, KafkaException (the first two of a group where
    several things ran at once) when the system does not answer at all.
    """
    sellers = sellers_of(plan.run)
    names = [seller.id for seller in sellers]
    async with session(plan, demo_readings(names), names) as run:
        with plan.reporter.step("The migration guide's curl"):
            await run.rest.seed_curl(plan.curl, seed_address(plan.target.api))
        with plan.reporter.step("Three sellers: products, prices, stock, orders, refusals"):
            stories = await tell_all(run.rest, sellers)
        run.crowd.named("cut and resumed").cut()
        with plan.reporter.step("A steady stream of price changes, one client cut"):
            await steady(stories)
        return await conclude(plan, run)


async def conclude(plan: Plan, run: Session) -> Outcome:
    """Wait for everything to arrive, read it back, judge it."""
    readback = await run.collector.collect(run.crowd, plan.reporter)
    if plan.plant is not None:
        readback = plan.plant(readback)
    shared = run.collector.shared
    return Outcome(
        rows=[*rest_rows(run.rest), *judge(run.oracle, readback, shared)],
        latency=latency_of(readback.watchers, run.rest.sent_at),
        journal=run.rest.journal.path,
        late=run.collector.late,
    )


@asynccontextmanager
async def session(
    plan: Plan, readings: Iterable[WatcherReading], sellers: Iterable[str]
) -> AsyncIterator[Session]:
    """Note where the log stands, connect the clients, and be ready to write.

    ``sellers`` are this run's own; the guide's seller is watched too.
    """
    target, oracle = plan.target, Oracle(threshold=plan.target.low_stock_threshold)
    own, shared = frozenset(sellers), frozenset({SEED_SELLER})
    limits = httpx.Timeout(REQUEST_SECONDS_MAX)
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal.open(plan.journals, plan.run, plan.clock))
        api = httpx.AsyncClient(base_url=target.api, timeout=limits)
        reads = httpx.AsyncClient(timeout=limits)
        for client in (api, reads):
            await stack.enter_async_context(client)
        readers = await _readers(target, reads)
        beginning = Beginning(
            at=plan.clock.now(),
            offsets=await asyncio.to_thread(readers.log.ends),
            type_counts=await readers.api.type_counts(),
            keep=partial(_is_ours, own, oracle),
        )
        with plan.reporter.step("Connecting the SSE clients"):
            may_be_ours = partial(_is_of, own | shared)
            crowd = await stack.enter_async_context(
                watching(target.stream, readings, journal, may_be_ours)
            )
        collector = Collector(readers, oracle, beginning, shared, target.archive_rotate_seconds)
        yield Session(Rest(api, oracle, journal), oracle, crowd, collector)


async def _readers(target: Target, client: httpx.AsyncClient) -> Readers:
    log = LogReader(target.kafka_brokers)
    return Readers(
        log,
        TableReader(target),
        ArchiveReader(target, await asyncio.to_thread(log.topic_ids)),
        ReadApi(client, target.analytics, target.api),
    )


def seed_address(api: str) -> str:
    """The guide's own address, its port replaced only where another is configured."""
    parts = urlsplit(api)
    if parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
        return api
    host = urlsplit(SEED_ADDRESS).hostname
    return f"http://{host}:{parts.port or 80}"


def _is_of(sellers: frozenset[str], event: SeenEvent) -> bool:
    return event.seller_id in sellers


def _is_ours(own: frozenset[str], oracle: Oracle, event: SeenEvent) -> bool:
    """Of a seller of this run, or about a product that it created under another name."""
    return event.seller_id in own or event.subject in oracle.products
