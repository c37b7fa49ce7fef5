"""Topics made again and topics with more partitions, under a running system (rules 13 and 14).

A broker of our own: these tests delete its topics.
"""

import asyncio
import json
import math
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from prometheus_client import CollectorRegistry
from rich.console import Console
from tests.support.analytics import Analytics, producer, read_log
from tests.support.analytics_events import naive_sums
from tests.support.analytics_feed import feed
from tests.support.api import ApiProcess, published
from tests.support.components import LocalComponents
from tests.support.own_topics import (
    assert_once_and_in_order,
    delete,
    end_transactions,
    make,
    partitions,
    relay_says,
    run,
    topics,
)
from tests.support.stream_service import Stream, StreamService
from tests.support.system import wait_until

from shopstream_analytics.worker.sinks import WORKERS, WorkerName
from shopstream_api.outbox.relay import relay as relay_module
from shopstream_api.outbox.relay.kafka import KafkaLog
from shopstream_api.outbox.relay.metrics import RelayMetrics
from shopstream_api.outbox.relay.postgres import PostgresStore
from shopstream_api.outbox.relay.relay import Relay, RelayOptions
from shopstream_api.outbox.relay.status import RelayStatus
from shopstream_api.outbox.relay.wakeup import Wakeup
from shopstream_api.outbox.topics import apply as apply_module
from shopstream_api.outbox.topics.apply import Apply
from shopstream_api.outbox.topics.errors import Refused
from shopstream_shared.boundaries import read_boundaries
from shopstream_shared.clock import SystemClock
from shopstream_shared.crash import CrashPoints
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import (
    ALL_TOPICS,
    BOUNDARIES,
    ORDERS,
    PRODUCTS,
    RELAY_PROGRESS,
    STREAM_TOPICS,
    load_topics,
)
from shopstream_stack.demo.target import Target
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System
from shopstream_stack.topics import command
from shopstream_stack.verify.run import verify


@pytest.fixture(scope="module")
def own() -> Iterator[LocalComponents]:
    with LocalComponents() as components:
        components.up("kafka", "postgres")
        yield components


@pytest.fixture
def api(own: LocalComponents) -> Iterator[ApiProcess]:
    """A new database on new topics."""
    present = AdminClient({"bootstrap.servers": own.kafka_brokers}).list_topics(timeout=10).topics
    delete(own, *{*ALL_TOPICS, BOUNDARIES} & present.keys())
    with ApiProcess.beside(own) as process:
        wait_until(lambda: process.answers("/health"), "all is healthy")
        yield process
    end_transactions(process)


def test_topics_made_again_stop_the_relay_loudly_until_they_are_adopted(
    api: ApiProcess, own: LocalComponents
) -> None:
    used = {*STREAM_TOPICS, RELAY_PROGRESS}
    before = [api.product(stock=2)["id"] for _ in range(6)]
    api.drained()
    delete(own, *ALL_TOPICS)
    # The API makes missing topics, and goes on to take writes.
    wait_until(lambda: "topic_recreated" in relay_says(api), "health says so")
    assert all(topic in relay_says(api) for topic in used)
    assert "shopstream topics adopt" in relay_says(api)
    after = [api.product()["id"] for _ in range(6)]
    assert api.client.patch(f"/products/{before[0]}", json={"name": "New"}).status_code == 200
    assert api.query("SELECT count(*) FROM outbox") == [(7,)]
    code, printed = topics(api, "ls", "--json")
    states = {row["topic"]: row["state"] for row in json.loads(printed)}
    assert code == 1
    assert {topic for topic, state in states.items() if state == "topic_recreated"} == used
    code, printed = topics(api, "adopt", "--json")
    assert code == 0, printed
    adopted = {row["topic"]: row for row in json.loads(printed)["topics"]}
    assert {row["generation"] for row in adopted.values()} == {1}
    # What is lost with the old topic is told, as far as the relay had come there.
    assert sum(adopted[PRODUCTS]["lastEnds"]) >= len(before)
    api.drained()
    expected = Counter([*after, before[0]])
    assert Counter(r.key for r in published(own.kafka_brokers)) == expected
    wait_until(lambda: api.answers("/health"), "all is healthy again")
    assert topics(api, "adopt")[1] == "nothing to adopt\n"


@pytest.mark.parametrize("known", [0, 30])
def test_nothing_is_committed_to_topics_made_again_between_two_looks(
    api: ApiProcess, own: LocalComponents, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    """The producer still has the old topics' partitions, where the new ones' keys do not belong.

    ``known``: so many events are in the old topics; without any only the question to the broker
    tells them from new ones.
    """
    monkeypatch.setattr(relay_module, "TOPICS_SECONDS", math.inf)
    api.kill()
    api.start(path="/openapi.json", SHOPSTREAM_RELAY="off")
    with relaying(api, own) as status:
        wait_until(lambda: status.state == "leading", "it leads")
        for _ in range(known):
            api.product()
        api.drained()
        delete(own, *STREAM_TOPICS)
        make(own)
        api.product()
        wait_until(lambda: "topic_recreated" in status.reason, "it says so")
    assert published(own.kafka_brokers, topics=[PRODUCTS]) == []
    assert api.query("SELECT count(*) FROM outbox") == [(1,)]


@contextmanager
def relaying(api: ApiProcess, own: LocalComponents) -> Iterator[RelayStatus]:
    """A relay of this process, over the real database and broker."""
    status, waits = RelayStatus("starting"), Wakeup()
    connection = KafkaConnection(own.kafka_brokers, "relay")
    relay = Relay(
        open_store=lambda: PostgresStore(api.database_url),
        open_log=lambda heartbeat: KafkaLog(connection, heartbeat),
        options=RelayOptions("relay", batch_rows=100),
        waits=waits,
        status=status,
        metrics=RelayMetrics(CollectorRegistry(), SystemClock()),
        crash=CrashPoints(),
    )
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield status
    finally:
        relay.stop()
        thread.join()


def test_a_progress_topic_made_again_after_a_crash_doubles_nothing(
    api: ApiProcess, own: LocalComponents
) -> None:
    """The hole itself: committed, not deleted, and the record that would have said so is gone.

    With two shards, so the topic made again has too few partitions as well.
    """
    api.product()
    api.drained()
    api.kill()
    assert run(api, "shards", "2") == (0, "2 shards\n")
    api.start(SHOPSTREAM_RELAY="off")
    product = api.product(stock=10)
    api.order((product["id"], 7))
    api.kill()
    api.start(path=None, SHOPSTREAM_RELAY="inline", SHOPSTREAM_CRASH_AT="relay.after_commit")
    assert api.died() == -signal.SIGKILL
    waiting = api.query("SELECT count(*) FROM outbox")
    assert waiting == [(4,)]
    delete(own, RELAY_PROGRESS)
    make(own)
    api.start()
    wait_until(lambda: "topic_recreated" in relay_says(api), "health says so")
    later = api.product()
    code, printed = topics(api, "adopt", "--json")
    assert code == 0, printed
    # Those of the shard that was killed behind its commit, and the other's if it was as far.
    assert 1 <= json.loads(printed)["foundPublished"] <= 4
    assert json.loads(printed)["sentAgainMax"] == 0
    api.drained()
    found = published(own.kafka_brokers)
    assert_once_and_in_order(found, api)
    assert later["id"] in {record.key for record in found}


@pytest.mark.timeout(600)  # the command as it is installed, four times
def test_adopted_topics_go_on_in_every_sink_and_verify_holds_over_all_their_lives(
    api: ApiProcess, own: LocalComponents, tmp_path: Path
) -> None:
    """One topic is made again twice; the second time the aggregates are behind the archive.

    Of three partitions two products leave one at least without an event; what was aborted there the
    aggregates have read past, and no archive has.
    """
    analytics, settings = sinks(api, own, tmp_path)
    system = System(settings)
    said: list[str] = []

    def life(*names: WorkerName) -> None:
        """Some commands, taken in by these sinks, then the topic is made again and adopted."""
        product = api.product(stock=9)
        api.order((product["id"], 2))
        api.drained()
        feed(analytics, *names)
        bygone.extend(published_values(own, PRODUCTS))
        delete(own, PRODUCTS)
        wait_until(lambda: f"topic_recreated: {PRODUCTS}" in relay_says(api), "health says so")
        api.product(stock=2)
        console = Console(record=True, width=200)
        assert command.adopt(system, console) == 0
        said.append(console.export_text())
        assert command.adopt(system, Console(quiet=True)) == 0

    bygone: list[dict[tuple[str, int], list[bytes]]] = []
    life("aggregates", "recent", "archive")
    abort_everywhere(own, PRODUCTS)
    api.drained()
    feed(analytics, "aggregates")
    assert "begins at the new topic's first record" in said[0]
    assert "0 offsets of the old topic were published but not archived" in said[0]
    assert analytics.generation() == 0
    life("recent", "archive")
    assert "Making the aggregates again from the archive" in said[1]
    assert analytics.generation() == 1
    api.drained()
    feed(analytics, "aggregates", "recent", "archive")
    assert len(recent(analytics)) == events(api)
    lives = [*bygone, *published_values(own, *STREAM_TOPICS)]
    assert analytics.counts() == naive_sums(values for life in lives for values in life.values())
    report = verify(Target.local(settings), data=tmp_path)
    assert report.holds, [*report.violations, *(row.unchecked for row in report.invariants)]
    assert report.row(1).counted["events"] == events(api)
    assert command.ls(settings, Console(quiet=True)) == 0


def abort_everywhere(own: LocalComponents, topic: str) -> None:
    """An aborted record on each partition."""
    made = producer(own.kafka_brokers)
    made.begin_transaction()
    for partition in range(partitions(own, topic)):
        made.produce(topic, b"never said", partition=partition)
    made.flush()
    made.abort_transaction()


def sinks(api: ApiProcess, own: LocalComponents, tmp_path: Path) -> tuple[Analytics, StackSettings]:
    """Tables and a bucket beside the API, and the settings that name all of it."""
    own.up("dynamodb", "minio")
    names = Analytics.own_names()
    variables = {**own.environ, **api.environ, **names, "SHOPSTREAM_DATA_DIR": str(tmp_path)}
    return Analytics(own, {**own.environ, **names}, tmp_path), StackSettings.load(variables)


@pytest.mark.timeout(600)  # as above, twice
def test_a_life_that_got_more_partitions_is_judged_by_its_own_boundaries(
    api: ApiProcess, own: LocalComponents, tmp_path: Path
) -> None:
    """A subject whose key moved is no disorder, also when the topic is made again after that."""
    analytics, settings = sinks(api, own, tmp_path)
    writers = Writers(api)
    api.drained()
    feed(analytics, *WORKERS)
    code, printed = topics(api, "apply", SHOPSTREAM_PROFILE="production")
    assert code == 0, printed
    writers.write()
    api.drained()
    feed(analytics, *WORKERS)
    found = published(own.kafka_brokers, topics=[PRODUCTS])
    places = {(record.key, record.partition) for record in found}
    assert len(places) > len({key for key, _ in places}), "some subject is in two partitions"
    delete(own, PRODUCTS)
    wait_until(lambda: f"topic_recreated: {PRODUCTS}" in relay_says(api), "health says so")
    assert command.adopt(System(settings), Console(quiet=True)) == 0
    writers.write()
    api.drained()
    feed(analytics, *WORKERS)
    report = verify(Target.local(settings), data=tmp_path)
    assert report.holds, [*report.violations, *(row.unchecked for row in report.invariants)]
    assert report.row(1).counted["events"] == events(api)


def published_values(
    own: LocalComponents, *topics: str
) -> list[dict[tuple[str, int], list[bytes]]]:
    """The values on each partition of the topics' present lives."""
    found: dict[tuple[str, int], list[bytes]] = {}
    for record in read_log(own.kafka_brokers, topics):
        found.setdefault((record.topic, record.partition), []).append(record.value or b"")
    return [found]


def recent(analytics: Analytics) -> list[tuple[str, str]]:
    """Event ids and subjects in the table, which the worker makes at its start."""
    try:
        items = analytics.scan("RECENT_EVENTS_TABLE_NAME")
    except ClientError:
        return []
    return [(item["eventId"]["S"], item["subject"]["S"]) for item in items]


def events(api: ApiProcess) -> int:
    count: int = api.query("SELECT count(*) FROM event_audit")[0][0]
    return count


class Writers:
    """Products that are made and changed, over and over, while something happens to the topics."""

    def __init__(self, api: ApiProcess) -> None:
        self._api = api
        self._products = [api.product(stock=1_000)["id"] for _ in range(12)]
        self.count = len(self._products)

    def write(self) -> None:
        for product in self._products:
            number = self.count
            self.count += 1
            path = f"/products/{product}"
            assert self._api.client.patch(path, json={"name": f"n{number}"}).status_code == 200

    @contextmanager
    def at_work(self) -> Iterator[None]:
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                self.write()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)


async def everything(stream: Stream, wanted: list[tuple[str, str, int]]) -> None:
    """Read until all events of the database have come; each once, and in order."""
    await stream.until(lambda: len(stream.data) >= len(wanted), 60)
    seen: dict[tuple[str, str], list[int]] = defaultdict(list)
    for value in stream.data:
        event: dict[str, Any] = json.loads(value)
        kind = event["type"].partition(".")[0]
        topic = {"product": PRODUCTS, "order": ORDERS}.get(kind, "shop.inventory")
        seen[topic, event["subject"]].append(int(event["sequence"]))
    expected: dict[tuple[str, str], list[int]] = defaultdict(list)
    for topic, subject, sequence in wanted:
        expected[topic, subject].append(sequence)
    assert seen == {key: sorted(sequences) for key, sequences in expected.items()}


def test_more_partitions_under_load_keep_every_event_once_and_in_order(
    api: ApiProcess, own: LocalComponents
) -> None:
    """A client that stays, one that resumes, and one that resumes at a replica made later."""

    async def run(first: StreamService) -> None:
        staying = await (await first.connect()).opened()
        begun = staying.last_id
        writers = await asyncio.to_thread(Writers, api)
        with writers.at_work():
            await staying.until(lambda: len(staying.data) > 60)
            code, printed = await asyncio.to_thread(
                topics, api, "apply", "--json", SHOPSTREAM_PROFILE="production"
            )
            assert code == 0, printed
            done = len(staying.data)
            await staying.until(lambda: len(staying.data) > done + 60)
        api.drained()
        wanted = api.query("SELECT topic, subject::text, sequence FROM event_audit")
        await everything(staying, wanted)
        again = await first.connect(last_event_id=begun)
        await everything(again, wanted)
        with StreamService(brokers) as second:
            cold = await second.connect(last_event_id=begun)
            await everything(cold, wanted)
        for stream in (staying, again, cold):
            stream.cut()

    brokers = own.kafka_brokers
    with StreamService(brokers) as first:
        asyncio.run(run(first))
    boundaries = read_boundaries(KafkaConnection(brokers, "test"))
    assert_once_and_in_order(published(brokers), api, boundaries)
    assert [partitions(own, topic) for topic in STREAM_TOPICS] == [12, 16, 12]
    rows = json.loads(topics(api, "ls", "--json")[1])
    assert {len(row["boundaries"]) for row in rows if row["topic"] in STREAM_TOPICS} == {1}
    code, printed = topics(api, "apply")
    assert code == 1
    assert "Kafka cannot take partitions away" in printed


def specs_with(products: int) -> dict[str, Any]:
    specs = dict(load_topics("local"))
    specs[PRODUCTS] = replace(specs[PRODUCTS], partitions=products)
    return specs


def test_partitions_added_past_the_tools_stop_the_relay_until_they_are_applied(
    api: ApiProcess, own: LocalComponents
) -> None:
    writers = Writers(api)
    api.drained()
    admin = AdminClient({"bootstrap.servers": own.kafka_brokers})
    admin.create_partitions([NewPartitions(PRODUCTS, 5)])[PRODUCTS].result(10)
    wait_until(lambda: "partitions_changed" in relay_says(api), "health says so")
    writers.write()
    assert api.query("SELECT count(*) FROM outbox") == [(12,)]
    connection = KafkaConnection(own.kafka_brokers, "test")
    applied = Apply(api.database_url, connection, specs_with(5), (), print).run()
    (grown,) = applied.topics
    assert (grown.topic, grown.before, grown.after, grown.warning) == (PRODUCTS, 3, 5, "")
    api.drained()
    boundaries = read_boundaries(connection)
    assert_once_and_in_order(published(own.kafka_brokers), api, boundaries)
    # The boundary is missed when it is gone, and comes back from the database.
    assert [boundary.ends for boundary in boundaries] == [grown.ends]
    delete(own, BOUNDARIES)
    wait_until(lambda: f"topic_recreated: {BOUNDARIES}" in relay_says(api), "health says so")
    assert topics(api, "adopt")[0] == 0
    assert read_boundaries(connection) == boundaries
    wait_until(lambda: relay_says(api).startswith("leading"), "the relay goes on")


def test_a_reader_that_is_behind_is_waited_for_and_then_nothing_is_changed(
    api: ApiProcess, own: LocalComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply_module, "CONSUMERS_SECONDS_MAX", 0.0)
    writers = Writers(api)
    api.drained()
    reader = Consumer({"bootstrap.servers": own.kafka_brokers, "group.id": "slow"})
    reader.commit(offsets=[TopicPartition(PRODUCTS, 0, 0)], asynchronous=False)
    reader.close()
    connection = KafkaConnection(own.kafka_brokers, "test")
    said: list[str] = []
    with pytest.raises(Refused, match=r"slow \(\d+\)"):
        Apply(api.database_url, connection, specs_with(4), (), said.append).run()
    assert "slow" in said[0]
    assert partitions(own, PRODUCTS) == 3
    writers.write()
    api.drained()
    applied = Apply(api.database_url, connection, specs_with(4), ("slow",), said.append).run()
    assert [grown.after for grown in applied.topics] == [4]
