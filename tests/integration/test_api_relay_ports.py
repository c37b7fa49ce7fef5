"""The relay's adapters on PostgreSQL and Kafka keep what its ports promise, as the model does."""

import contextlib
import os
import socket
import stat
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
from shopstream_api.outbox.relay.ports import EventLog, LogFailed, OutboxStore
from shopstream_api.outbox.relay.postgres import PostgresStore
from shopstream_api.outbox.relay.progress import encode_progress
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topic_admin import ensure_topics
from shopstream_shared.topics import PRODUCTS, load_topics


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


def test_a_producer_whose_connection_was_lost_in_a_commit_begins_nothing_more(
    components: LocalComponents,
) -> None:
    """Rule 8: librdkafka may have sent the commit twice, and the first may still come through."""
    ports = RealPorts(components)
    before = _sockets()
    cut = False

    class Cutting(KafkaLog):
        """Loses its connections as soon as the commit is on its way."""

        def _repeat(self, call: Callable[[], object], name: str) -> None:
            if cut:
                for number in _sockets() - before:
                    # What has ended meanwhile is cut off already.
                    with (
                        contextlib.suppress(OSError),
                        socket.socket(fileno=os.dup(number)) as connection,
                    ):
                        connection.shutdown(socket.SHUT_RDWR)
            super()._repeat(call, name)

    with closing(Cutting(ports._connection, lambda: None)) as log:
        log.fence(ports.transactional_id)
        for seq in (1, 2):
            log.begin()
            sent(log, [], encode_progress(ports.outbox, [seq]))
            cut = seq == 2
            log.commit()
        with pytest.raises(LogFailed, match="connection was lost"):
            log.begin()
        cut = False
        log.fence(ports.transactional_id)
        log.begin()


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
