"""The relay: how soon one event is seen, how fast a backlog drains, whether its table grows."""

import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from shopstream_shared.kafka import KafkaConnection
from shopstream_stack.bench import plain_loop
from shopstream_stack.bench.peer import running_peer
from shopstream_stack.bench.place import DRAIN_SECONDS_MAX, Place
from shopstream_stack.bench.plan import RelayPlan
from shopstream_stack.bench.relay_rows import Rows, Wave, check
from shopstream_stack.bench.result import Bar, Results, Row
from shopstream_stack.bench.waiting import wait_until
from shopstream_stack.demo.log_reader import Offsets
from shopstream_stack.errors import StackError

P50_MS_MAX: Final = 10.0
P99_MS_MAX: Final = 40.0
RATE_MIN: Final = 40_000
RATIO_MIN: Final = 0.8
#: The table and its index after all waves, against the rows of one wave and what two vacuums apart
#: may leave between them.
SIZE_RATIO_MAX: Final = 15.0
TAKE_MS_MAX: Final = 20.0
#: As the API's processes tell those of relays; outside of the transaction, as they do.
NOTIFY: Final = b"NOTIFY shopstream_outbox"
POLL_SECONDS: Final = 0.01
SEEN_SECONDS_MAX: Final = 60.0
WARMUP_WRITES_A_SECOND: Final = 200
#: For transactions of nobody: events as large as a product's, and a record as the relay has one.
OWN_EVENTS: Final = "bench.events"
OWN_RECORDS: Final = "bench.records"
OWN_BYTES: Final = 450
MIB: Final = 2**20

_SIZE: Final = "SELECT pg_total_relation_size('outbox')"


def measure_relay(place: Place, plan: RelayPlan, results: Results) -> None:
    """Adds a row each: latency, drain beside the floor, churn."""
    place.use("relay")
    rows = Rows.of(place)
    with place.system.reporter.step("Warming the broker up"):
        place.start_relay()
        drained_in(place, rows, plan.warmup_rows)
        with _plain_loop(place):
            drained_in(place, rows, plan.warmup_rows)
        place.start_relay()
        with place.connect() as connection, place.connect() as teller:
            for _ in _paced(plan.warmup_writes, WARMUP_WRITES_A_SECOND):
                rows.write_one(connection)
                teller.execute(NOTIFY)
        place.drain()
    with place.system.reporter.step(f"{plan.writes} single writes"):
        results.rows.append(_latency(place, rows, plan))
    with place.system.reporter.step(f"{plan.writes} bare transactions"):
        results.rows.append(_own_part(place, plan))
    with place.system.reporter.step(f"Backlogs of {plan.backlog_rows:,}"):
        results.rows.append(_drain(place, rows, plan))
    with place.system.reporter.step(f"{plan.churn_rows:,} events through the table"):
        results.rows.append(_churn(place, rows, plan, results))


@dataclass(slots=True)
class _Watch:
    """Notes when each event of some subjects is first seen by a reader of committed records."""

    place: Place
    start: Offsets
    seen: dict[str, float] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        connection = KafkaConnection(self.place.brokers, "shopstream-bench")
        consumer = Consumer(connection.consumer("bench-latency"))
        try:
            consumer.assign([TopicPartition(t, p, at) for (t, p), at in self.start.items()])
            while not self.stop.is_set():
                message = consumer.poll(POLL_SECONDS)
                if message is not None and message.error() is None:
                    key = message.key()
                    assert isinstance(key, bytes)  # noqa: S101 - every event has its aggregate's
                    self.seen.setdefault(key.decode(), time.monotonic())
        finally:
            consumer.close()


def _latency(place: Place, rows: Rows, plan: RelayPlan) -> Row:
    """From the end of COMMIT to the event in the hands of a reader, each row by itself."""
    committed: dict[str, float] = {}
    with place.connect() as connection, place.connect() as teller:
        first = rows.write(connection, 1)
        watch = _Watch(place, first.start)
        reader = threading.Thread(target=watch.run, daemon=True)
        reader.start()
        _await_seen(watch, {first.subjects[0]})
        begin = time.monotonic()
        for _ in _paced(plan.writes, plan.writes_a_second):
            committed[rows.write_one(connection)] = time.monotonic()
            teller.execute(NOTIFY)
        lasted = time.monotonic() - begin
    _await_seen(watch, committed.keys())
    watch.stop.set()
    reader.join(SEEN_SECONDS_MAX)
    place.drain()
    all_of_it = Wave(list(committed), len(committed), first.start)
    delays = _delays(watch, committed)
    return Row(
        f"Commit to a reader of committed records, {plan.writes_a_second} writes a second",
        {"rate": plan.writes / lasted, **delays},
        (
            Bar("p50 ms", delays["p50Ms"], "<=", P50_MS_MAX),
            Bar("p99 ms", delays["p99Ms"], "<=", P99_MS_MAX),
        ),
        tuple(check(place, all_of_it)),
    )


def _own_part(place: Place, plan: RelayPlan) -> Row:
    """What of it is Kafka's: bare transactions of one event and one record beside it, as many."""
    admin = AdminClient({"bootstrap.servers": place.brokers})
    partitions = {OWN_EVENTS: 3, OWN_RECORDS: 1}
    made = admin.create_topics([NewTopic(topic, n, 1) for topic, n in partitions.items()])
    for future in made.values():
        future.result(SEEN_SECONDS_MAX)
    watch = _Watch(place, {(OWN_EVENTS, p): 0 for p in range(partitions[OWN_EVENTS])})
    reader = threading.Thread(target=watch.run, daemon=True)
    reader.start()
    connection = KafkaConnection(place.brokers, "shopstream-bench")
    producer = Producer(connection.transactional_producer("bench-own-part"))
    producer.init_transactions(SEEN_SECONDS_MAX)
    begun: dict[str, float] = {}
    begin = time.monotonic()
    for number in _paced(plan.writes, plan.writes_a_second):
        begun[str(number)] = time.monotonic()
        producer.begin_transaction()
        producer.produce(OWN_EVENTS, b"e" * OWN_BYTES, str(number))
        producer.produce(OWN_RECORDS, b"record")
        producer.commit_transaction(SEEN_SECONDS_MAX)
    lasted = time.monotonic() - begin
    _await_seen(watch, begun.keys())
    watch.stop.set()
    reader.join(SEEN_SECONDS_MAX)
    return Row(
        "Of that Kafka's own part: a bare transaction, begun to seen",
        {"rate": plan.writes / lasted, **_delays(watch, begun)},
        (),
        (),
    )


def _delays(watch: _Watch, since: Mapping[str, float]) -> dict[str, float]:
    delays = [1_000 * (watch.seen[one] - at) for one, at in since.items()]
    cuts = statistics.quantiles(delays, n=100)
    return {"p50Ms": cuts[49], "p95Ms": cuts[94], "p99Ms": cuts[98], "maxMs": max(delays)}


def _paced(count: int, a_second: int) -> Iterator[int]:
    """So many numbers, none before its time."""
    begin = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begin + number / a_second - time.monotonic()))
        yield number


def _await_seen(watch: _Watch, wanted: AbstractSet[str]) -> None:
    wait_until(lambda: wanted <= watch.seen.keys(), "all events are seen", SEEN_SECONDS_MAX)


def _drain(place: Place, rows: Rows, plan: RelayPlan) -> Row:
    """Relay and plain loop in turns, each on a backlog that becomes visible at once."""
    relay: list[float] = []
    floor: list[float] = []
    faults: list[str] = []
    for _ in range(plan.rounds):
        with _plain_loop(place):
            floor.append(plan.backlog_rows / drained_in(place, rows, plan.backlog_rows)[0])
        place.start_relay()
        seconds, wave = drained_in(place, rows, plan.backlog_rows)
        relay.append(plan.backlog_rows / seconds)
        faults += check(place, wave)
    rate, ratio = statistics.median(relay), statistics.median(relay) / statistics.median(floor)
    return Row(
        f"Drain of {plan.backlog_rows:,} events, beside a loop without transactions",
        {
            "rate": rate,
            "floor": statistics.median(floor),
            "ratio": ratio,
            "rateMin": min(relay),
            "rateMax": max(relay),
        },
        (Bar("events/s", rate, ">=", RATE_MIN), Bar("ratio", ratio, ">=", RATIO_MIN)),
        tuple(faults),
    )


def drained_in(place: Place, rows: Rows, count: int) -> tuple[float, Wave]:
    """Seconds from the commit of a backlog until none of it is left; what it was.

    Raises StackError.
    """
    place.settle()
    with place.connect() as connection:
        with connection.transaction():
            wave = rows.write(connection, count)
        begin = time.monotonic()
        connection.execute(NOTIFY)
        end = begin + DRAIN_SECONDS_MAX
        # Without a sort or a scan of the table, which would cost what is measured.
        connection.execute("SET enable_seqscan = off")
        while connection.execute("SELECT FROM outbox ORDER BY seq LIMIT 1").fetchone() is not None:
            if time.monotonic() > end:
                raise StackError(f"The outbox is not empty after {DRAIN_SECONDS_MAX:g} s")
            time.sleep(POLL_SECONDS)
    return time.monotonic() - begin, wave


@contextmanager
def _plain_loop(place: Place) -> Iterator[None]:
    """The floor at work instead of the relay."""
    place.stop_relay()
    command = (sys.executable, "-m", plain_loop.__name__)
    with running_peer("The plain loop", command, f"{place.database_url} {place.brokers}"):
        yield


def _churn(place: Place, rows: Rows, plan: RelayPlan, results: Results) -> Row:
    """Many waves through the table: its size, and how long a look at it takes, stay as they are."""
    sizes: list[int] = []
    takes: list[float] = []
    faults: list[str] = []
    begin = time.monotonic()
    with place.connect() as connection:
        connection.execute("VACUUM FULL outbox")
        connection.execute("SET enable_seqscan = off")
        for number in range(plan.churn_rows // plan.wave_rows):
            with connection.transaction():
                wave = rows.write(connection, plan.wave_rows)
            if not number:
                full = int(place.value(_SIZE))
            connection.execute(NOTIFY)
            place.drain()
            sizes.append(int(place.value(_SIZE)))
            started = time.monotonic()
            connection.execute("SELECT FROM outbox WHERE seq > 0 ORDER BY seq LIMIT 1").fetchone()
            takes.append(1_000 * (time.monotonic() - started))
    faults = check(place, wave)
    results.notes.append(
        f"outbox with index: {full / MIB:.0f} MiB with {plan.wave_rows:,} rows, "
        f"at most {max(sizes) / MIB:.0f} MiB and {sizes[-1] / MIB:.0f} MiB at the end of "
        f"{plan.churn_rows:,}; a look at it took {statistics.median(takes):.1f} ms, "
        f"at most {max(takes):.1f} ms"
    )
    return Row(
        f"{plan.churn_rows:,} events through the outbox, {plan.wave_rows:,} at a time",
        {
            "rate": plan.churn_rows / (time.monotonic() - begin),
            "p50Ms": statistics.median(takes),
            "sizeMiB": sizes[-1] / MIB,
            "sizeMaxMiB": max(sizes) / MIB,
            "waveMiB": full / MIB,
            "takeMaxMs": max(takes),
        },
        (
            Bar("size / one wave", max(sizes) / full, "<=", SIZE_RATIO_MAX),
            Bar("a look, ms", statistics.median(takes), "<=", TAKE_MS_MAX),
        ),
        tuple(faults),
    )
