"""The relay's adapters on PostgreSQL and Kafka keep what its ports promise, as the model does."""

import contextlib
import os
import socket
import stat
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from tests.support.api import published
from tests.support.app import migrated_database
from tests.support.components import LocalComponents
from tests.support.outbox import insert_event
from tests.support.relay_ports import SCENARIOS, Ports, sent
from tests.support.system import wait_until

from shopstream_api.outbox.relay.kafka import KafkaLog
from shopstream_api.outbox.relay.ports import EventLog, OutboxStore, ProducerSpent
from shopstream_api.outbox.relay.postgres import PostgresStore
from shopstream_api.outbox.relay.progress import decode_progress, encode_progress
from shopstream_shared.kafka import Config, KafkaConnection
from shopstream_shared.log_range import (
    EARLIEST,
    Part,
    committed_records,
    log_offsets,
    settled_ends,
)
from shopstream_shared.topic_admin import ensure_topics
from shopstream_shared.topics import PRODUCTS, RELAY_PROGRESS, load_topics

#: Of the broker that librdkafka plays: long enough to act while a request is under way.
ROUND_TRIP_SECONDS = 0.1


class RealPorts:
    """A fresh database, and names of its own on the broker of the run."""

    huge = b"x" * 2_000_000

    def __init__(self, components: LocalComponents) -> None:
        components.up("kafka", "postgres")
        self.outbox = str(uuid.uuid4())
        self.transactional_id = f"test-{self.outbox}"
        self._database_url = migrated_database(components)
        self._connection = KafkaConnection(components.kafka_brokers, "test")
        admin = AdminClient(self._connection.admin())
        ensure_topics(admin, load_topics("local").values())

    def store(self) -> OutboxStore:
        return PostgresStore(self._database_url)

    def log(self, heartbeat: Callable[[], None] = lambda: None) -> EventLog:
        return KafkaLog(self._connection, heartbeat)

    def write(self, *transactions: Sequence[str]) -> None:
        with ExitStack() as stack:
            connections = [
                stack.enter_context(psycopg.connect(self._database_url)) for _ in transactions
            ]
            for turn in range(max(map(len, transactions))):
                for connection, keys in zip(connections, transactions, strict=True):
                    if turn < len(keys):
                        insert_event(connection, keys[turn], txrows=len(keys))

    def seen(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        names = [key.decode() for key in keys]
        found = published(self._connection.brokers, *names, topics=[PRODUCTS])
        return [record.key.encode() for record in found]

    def until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, "it holds")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_real_ones_do_as_the_model(
    components: LocalComponents, scenario: Callable[[Ports], None]
) -> None:
    scenario(RealPorts(components))


def test_the_progress_of_each_outbox_has_a_key_of_its_own(components: LocalComponents) -> None:
    """Rule 6: compaction, which keeps the last of each key, must not take that of another."""
    ports = RealPorts(components)
    outboxes = [str(uuid.uuid4()), str(uuid.uuid4())]
    with closing(ports.log()) as log:
        for outbox in outboxes:
            # Anew each time: a slow commit spends a producer.
            log.fence(ports.transactional_id)
            log.begin()
            sent(log, [], encode_progress(outbox, [1]))
            log.commit()
    admin = AdminClient(ports._connection.admin())
    part: Part = (RELAY_PROGRESS, 0)
    begin = log_offsets(admin, [part], EARLIEST)
    end = settled_ends(admin, [part], lambda: None)
    records = committed_records(ports._connection, begin, end)
    keys = {decode_progress(record.value() or b"")[0]: record.key() for record in records}
    assert [keys[outbox] for outbox in outboxes] == [
        f"{ports.transactional_id}/{outbox}".encode() for outbox in outboxes
    ]


class SlowModel(KafkaConnection):
    """To a broker that librdkafka plays in this process, each answer after ROUND_TRIP_SECONDS."""

    def transactional_producer(self, transactional_id: str) -> Config:
        return {
            **KafkaConnection.transactional_producer(self, transactional_id),
            "test.mock.num.brokers": 1,
            "test.mock.broker.rtt": round(ROUND_TRIP_SECONDS * 1_000),
        }


def test_a_producer_that_may_have_asked_twice_for_a_commit_begins_nothing_more() -> None:
    """Rule 8: librdkafka asks again by itself, without a word, and the first may come through."""
    before = _sockets()
    with closing(KafkaLog(SlowModel("played", "test"), lambda: None)) as log:
        log.fence("t")
        _commit(log)
        _commit(log)
        with pytest.raises(ProducerSpent):
            _commit_and_cut_each(log, sorted(_sockets() - before))
        log.fence("t")
        _commit(log)
        log.begin()


def _commit_and_cut_each(log: KafkaLog, sockets: Sequence[int]) -> None:
    """One a commit, half-way: asked, not answered. Those that no commit takes do no harm."""
    for number in sockets:
        _commit(log, threading.Timer(ROUND_TRIP_SECONDS / 2, _cut, [number]))
    log.begin()


def _commit(log: KafkaLog, meanwhile: threading.Timer | None = None) -> None:
    log.begin()
    sent(log, [], encode_progress("o", [1]))
    if meanwhile is not None:
        meanwhile.start()
    log.commit()
    if meanwhile is not None:
        meanwhile.join()


def _cut(number: int) -> None:
    # What has ended meanwhile is cut off already.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def _sockets() -> set[int]:
    """Descriptors of this process that are connected to somewhere over the network."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        number = int(link.name)
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as connection:
                    connection.getpeername()
                    if connection.family in (socket.AF_INET, socket.AF_INET6):
                        found.add(number)
        except OSError:
            continue
    return found
