"""A million events under kills: aggregates, archive and what was made are three times the same.

Two workers a group read while a writer commits transactions of random sizes, some of them aborted.
Random workers are killed and started again. What is committed also stands, as rows, in PostgreSQL.
At the end the items of the aggregates are held against a recount by SQL over those rows and against
one by DuckDB over the archive's files, to the cent, and the archive's offsets against the log's.
The events are synthetic: made by the tests' shop, not through the API, which takes hours for as
many orders.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Final

import duckdb
import psycopg
from confluent_kafka import KafkaError, Message, Producer
from tests.endurance import recount
from tests.support.analytics import Analytics, producer, s3_client, wait_until
from tests.support.analytics_events import Shop
from tests.support.components import LocalComponents
from tests.support.warm import Fork

from shopstream_analytics.aggregates import keys
from shopstream_shared.events.codec import EncodedEvent

GROUPS: Final = ("aggregates", "archive")
WORKERS_A_GROUP: Final = 2
TRANSACTION_EVENTS_MAX: Final = 2_000
#: Of the transactions, one in so many is aborted; its events are in none of the three.
ABORTED_EVERY: Final = 10
#: A worker that was killed comes back after at most so long.
AWAY_SECONDS_MAX: Final = 3.0
SETTLE_SECONDS_MAX: Final = 900.0
DIFFERENCES_MAX: Final = 10
_COUNTERS: Final = ("events", "orders", "units", "cancelled", "lowStockWarnings", "outOfStock")


@dataclass(frozen=True, slots=True)
class Counted:
    """``differences``: the first ones, and how many there are in all."""

    events: int
    aborted: int
    kills: int
    objects: int
    items: int
    seconds: float
    differences_in_all: int
    differences: list[str]

    @property
    def holds(self) -> bool:
        return not self.differences_in_all and self.events > 0


@dataclass(slots=True)
class Scene:
    """One run, in tables, a bucket and a database of its own."""

    components: LocalComponents
    logs: Path
    events: int
    kills: int
    seed: int
    analytics: Analytics = field(init=False)
    _made: int = 0
    _aborted: int = 0
    _workers: dict[tuple[str, int], tuple[ExitStack, Fork]] = field(default_factory=dict)

    def play(self) -> Counted:
        """Write, kill, wait, compare."""
        begun = time.monotonic()
        self.analytics = Analytics.fresh(self.components, self.logs)
        database = self.components.fresh_database()
        try:
            for group in GROUPS:
                for number in range(WORKERS_A_GROUP):
                    self._start(group, number)
            with ThreadPoolExecutor(1) as beside:
                writing = beside.submit(self._write, database)
                self._kill_beside(writing)
                writing.result()
            self._wait_settled()
        finally:
            for stack, _ in self._workers.values():
                stack.close()
        items = self._items()
        found, objects = self._compare(items, database)
        return Counted(
            events=self._made,
            aborted=self._aborted,
            kills=self.kills,
            objects=objects,
            items=len(items),
            seconds=round(time.monotonic() - begun, 1),
            differences_in_all=len(found),
            differences=found[:DIFFERENCES_MAX],
        )

    def _start(self, group: str, number: int) -> None:
        stack = ExitStack()
        worker = stack.enter_context(self.analytics.worker(group))
        self._workers[group, number] = stack, worker

    def _kill_beside(self, writing: "Future[None]") -> None:
        """At random moments of the writing, each time a random worker."""
        chance = Random(self.seed)
        points = sorted(chance.random() * self.events for _ in range(self.kills))
        for point in points:
            while self._made < point and not writing.done():
                threading.Event().wait(0.05)
            which = chance.choice(sorted(self._workers))
            stack, worker = self._workers[which]
            worker.kill()
            worker.wait()
            stack.close()
            threading.Event().wait(chance.uniform(0, AWAY_SECONDS_MAX))
            self._start(*which)

    def _write(self, database: str) -> None:
        chance = Random(self.seed + 1)
        events = events_of(self.seed)
        made = producer(self.analytics.environ["KAFKA_BROKERS"])
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(recount.MADE)
            connection.execute(recount.LINES)
            while self._made < self.events:
                size = chance.randint(1, min(TRANSACTION_EVENTS_MAX, self.events // 10 or 1))
                some = list(islice(events, size))
                if chance.randrange(ABORTED_EVERY) == 0:
                    _send(made, some, abort=True)
                    self._aborted += len(some)
                    continue
                _insert(connection, some, _send(made, some))
                self._made += len(some)

    def _wait_settled(self) -> None:
        wait_until(
            lambda: all(self.analytics.lag(f"analytics-{group}") == 0 for group in GROUPS),
            "everything is stored",
            SETTLE_SECONDS_MAX,
        )

    def _items(self) -> recount.Sums:
        """The aggregates' hours, summed over source partitions."""
        sums: recount.Sums = {}
        for item in self.analytics.scan("SHOPSTREAM_AGGREGATES_TABLE_NAME"):
            key, _ = keys.parse(item["pk"]["S"], item["sk"]["S"])
            if key.granularity != "hour" or key.dimension not in {"seller", "product", "all"}:
                continue
            counters = sums.setdefault((key.dimension, key.id, key.start), Counter())
            for name, value in item.items():
                if name in _COUNTERS or name.startswith(("byType#", "revenueMinor#")):
                    counters[name] += int(value["N"])
        return {key: Counter({n: v for n, v in one.items() if v}) for key, one in sums.items()}

    def _compare(self, items: recount.Sums, database: str) -> tuple[list[str], int]:
        with psycopg.connect(database) as postgres, duckdb.connect() as archive:
            made = recount.counters_of(postgres.execute(recount.SUMS_POSTGRESQL).fetchall())
            objects = self._load(archive)
            archived = recount.counters_of(archive.execute(recount.SUMS_DUCKDB).fetchall())
            order = "SELECT topic, part, log_offset, id FROM made ORDER BY topic, part, log_offset"
            wanted = [(*row,) for row in postgres.execute(order).fetchall()]
            there = archive.execute(order).fetchall()
        found = recount.differences("aggregates and PostgreSQL", items, made)
        found += recount.differences("aggregates and the archive", items, archived)
        found += _offset_differences(there, wanted)
        return found, objects

    def _load(self, archive: "duckdb.DuckDBPyConnection") -> int:
        """The bucket's files into DuckDB; how many there were."""
        folder = self.logs / "archive"
        folder.mkdir()
        client, bucket = s3_client(self.analytics.environ), self.analytics.environ
        name = bucket["ARCHIVE_BUCKET_NAME"]
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix="events/")
        names = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        for key in names:
            client.download_file(name, key, str(folder / key.rpartition("/")[2]))
        archive.execute(recount.MADE)
        archive.execute(recount.LINES)
        for statement in (recount.MADE_FROM_ARCHIVE, recount.LINES_FROM_ARCHIVE):
            archive.execute(statement, [str(folder / "*.jsonl.zst")])
        return len(names)


def events_of(seed: int) -> Iterator[EncodedEvent]:
    """A shop's life, for ever."""
    shop = Shop(seed)
    while True:
        yield from shop.order_life()


def _send(
    made: Producer, events: Sequence[EncodedEvent], *, abort: bool = False
) -> list[tuple[int, int]]:
    """One transaction; partition and offset of each event, in order."""
    places: dict[int, tuple[int, int]] = {}

    def note(number: int, error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        places[number] = (message.partition() or 0, message.offset() or 0)

    made.begin_transaction()
    for number, event in enumerate(events):
        made.produce(
            event.topic,
            event.value,
            event.subject,
            headers=[*event.headers],
            on_delivery=partial(note, number),
        )
    made.flush()
    if abort:
        made.abort_transaction()
        return []
    made.commit_transaction()
    return [places[number] for number in range(len(events))]


def _insert(
    connection: "psycopg.Connection[Any]",
    events: Sequence[EncodedEvent],
    places: Sequence[tuple[int, int]],
) -> None:
    """The rows of committed events, read from their bytes as any reader of JSON would."""
    bodies = [json.loads(event.value) for event in events]
    with connection.cursor() as cursor:
        with cursor.copy("COPY made FROM STDIN") as rows:
            for event, body, place in zip(events, bodies, places, strict=True):
                rows.write_row(_row(event.topic, body, place))
        with cursor.copy("COPY lines FROM STDIN") as rows:
            for body in bodies:
                for number, item in enumerate(body["data"].get("items", ()), 1):
                    values = (item["productId"], item["quantity"], item["totalMinor"])
                    rows.write_row((body["id"], number, *values))


def _row(topic: str, body: dict[str, Any], place: tuple[int, int]) -> tuple[Any, ...]:
    data = body["data"]
    return (
        *(body["id"], topic, *place, body["type"], body["subject"], body["sellerid"]),
        *(body["time"][:13] + ":00:00Z", data.get("currency"), data.get("totalMinor")),
        *(data.get("refundedMinor", 0), data.get("refundAmountMinor", 0)),
    )


def _offset_differences(there: Sequence[Any], wanted: Sequence[Any]) -> list[str]:
    """Each record of the log once in the archive, under its own offset."""
    seen, expected = Counter(there), Counter(wanted)
    lost, more = expected - seen, seen - expected
    return [
        *(f"archive: {'/'.join(map(str, one))} is not there" for one in lost),
        *(f"archive: {'/'.join(map(str, one))} is there once too often" for one in more),
    ]
