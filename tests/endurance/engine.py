"""What Faust, the driver and the lanes cost an event, beside aiokafka's own loop in the same run.

Processor time of this process, both threads, while a backlog is read; the sink does nothing, or
decodes. Then the time from commit to the end of the write with a sink of 20 ms.
"""

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from multiprocessing import get_context
from typing import Final
from uuid import uuid4

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]  # ships no types
from tests.support.analytics import producer, send
from tests.support.analytics_engine import NotingSink, engine, new_topic
from tests.support.analytics_events import DAY, event, inventory_body

from shopstream_analytics.consumer.batch import Batch
from shopstream_analytics.events import read_event
from shopstream_analytics.worker.__main__ import spare_the_collector
from shopstream_shared.clock import SystemClock
from shopstream_shared.events.codec import EncodedEvent

PARTITIONS: Final = 3
#: As the relay's largest transaction.
TRANSACTION_RECORDS: Final = 2_000
#: What the bare loop asks for; more made it no faster.
BARE_RECORDS: Final = 2_000
SLOW_WRITE_SECONDS: Final = 0.02
#: Transactions of 3 at 1,000 events a second; several producers, as each waits for its commits.
PACED_EVENTS: Final = 1_000
PACED_PRODUCERS: Final = 4
PACED_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Events a second of processor time; milliseconds."""

    records: int
    bare_loop: int
    empty_agent: int
    with_decode: int
    largest_round: int
    paced_events_per_second: int
    paced_p50_ms: int
    paced_p99_ms: int
    paced_writes: int

    @property
    def holds(self) -> bool:
        """Whether the issue's bounds hold; those of speed as ratios of the bare loop."""
        return self.empty_agent >= self.bare_loop and self.paced_p99_ms <= 500


def run(brokers: str, records: int) -> Seen:
    """Each once, on topics of their own."""
    spare_the_collector()
    topic = new_topic(brokers, PARTITIONS)
    made = producer(brokers)
    for _ in range(records // TRANSACTION_RECORDS):
        send(made, _events(topic, TRANSACTION_RECORDS, DAY))
    total = records // TRANSACTION_RECORDS * TRANSACTION_RECORDS
    bare = asyncio.run(_bare(brokers, topic, total))
    empty, sink = asyncio.run(_through_the_engine(brokers, topic, total, _nothing))
    decoded, _ = asyncio.run(_through_the_engine(brokers, topic, total, _decode))
    rate, ages, writes = asyncio.run(_paced(brokers))
    return Seen(
        records=total,
        bare_loop=bare,
        empty_agent=empty,
        with_decode=decoded,
        largest_round=max(sink.writes),
        paced_events_per_second=rate,
        paced_p50_ms=round(ages[len(ages) // 2] * 1_000),
        paced_p99_ms=round(ages[int(len(ages) * 0.99)] * 1_000),
        paced_writes=writes,
    )


def _events(topic: str, number: int, at: datetime) -> list[EncodedEvent]:
    made = []
    for _ in range(number):
        subject = uuid4().hex
        body = inventory_body(subject, "s1", 1)
        one = event("inventory.updated", body, subject=subject, seller="s1", at=at)
        made.append(replace(one, topic=topic))
    return made


async def _bare(brokers: str, topic: str, total: int) -> int:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=brokers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        started, read = time.process_time(), 0
        while read < total:
            found = await consumer.getmany(timeout_ms=1_000, max_records=BARE_RECORDS)
            read += sum(map(len, found.values()))
        return round(total / (time.process_time() - started))
    finally:
        await consumer.stop()


async def _nothing(batch: Batch) -> None:
    pass


async def _decode(batch: Batch) -> None:
    for record in batch.records:
        read_event(record.value)


async def _through_the_engine(
    brokers: str, topic: str, total: int, work: Callable[[Batch], Awaitable[None]]
) -> tuple[int, NotingSink]:
    gc.collect()
    sink = NotingSink(within=work)
    async with engine(brokers, (topic,), sink, f"g-{uuid4()}") as running:
        # From the first batch on: the start of Faust is no cost of an event.
        await running.until(lambda: sink.records, "the first batch")
        started, before = time.process_time(), sink.records
        await running.until(lambda: sink.records == total, "all records")
        return round((total - before) / (time.process_time() - started)), sink


async def _paced(brokers: str) -> tuple[int, list[float], int]:
    topic = new_topic(brokers, PARTITIONS)
    sink = NotingSink(seconds=SLOW_WRITE_SECONDS)
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as writer:
        async with engine(brokers, (topic,), sink, f"g-{uuid4()}") as running:
            first = await loop.run_in_executor(writer, _pace, brokers, topic, 1.0)
            await running.until(lambda: sink.records == first, "it runs")
            ages: list[float] = []
            sink.ages, before = ages, len(sink.writes)
            sent = await loop.run_in_executor(writer, _pace, brokers, topic, PACED_SECONDS)
            await running.until(lambda: len(ages) == sent, "all records")
            return round(sent / PACED_SECONDS), sorted(ages), len(sink.writes) - before


def _pace(brokers: str, topic: str, seconds: float) -> int:
    sent = [0] * PACED_PRODUCERS

    def produce(number: int) -> None:
        made = producer(brokers)
        start = time.monotonic()
        while (now := time.monotonic() - start) < seconds:
            if sent[number] * PACED_PRODUCERS / PACED_EVENTS <= now:
                send(made, _events(topic, 3, SystemClock().now()))
                sent[number] += 3
            else:
                time.sleep(0.001)

    threads = [threading.Thread(target=produce, args=(n,)) for n in range(PACED_PRODUCERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sent)
