"""What each safety piece of the relay is for: without it, the same fault leaves the log wrong.

Each test runs twice, as it is and with one piece patched out of the running process, and looks at
the log: an aggregate's events must be there once each and in order. `tests/unit` has the same for
the simulation and for the abstract protocol.
"""

import signal
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Producer
from tests.support.api import ApiProcess, published
from tests.support.components import LocalComponents
from tests.support.outbox import insert_event
from tests.support.sabotage import TERMS_FILE
from tests.support.system import wait_until

from shopstream_api.outbox.relay.progress import encode_progress
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import PRODUCTS, RELAY_PROGRESS

#: Longer than any test: who leaves this transaction open is the test, not the broker.
OPEN_MS_MAX = 300_000

EVENTS = 3

with_and_without = pytest.mark.parametrize("sabotaged", [False, True], ids=["whole", "without"])


class Outbox:
    """Events of one aggregate in an outbox that no relay has seen yet, and what became of them."""

    def __init__(self, components: LocalComponents, api: ApiProcess, events: int = EVENTS) -> None:
        self._brokers = components.kafka_brokers
        self._key = str(uuid.uuid4())
        self._events = events
        with psycopg.connect(api.database_url) as connection:
            for sequence in range(1, events + 1):
                insert_event(connection, self._key, sequence=sequence, txrows=events)

    def on_log(self) -> Sequence[int]:
        """Their sequences, in the order of the log."""
        found = published(self._brokers, self._key, topics=[PRODUCTS])
        return [int(record.headers["ce_sequence"]) for record in found]

    def judge(self, *, sabotaged: bool) -> None:
        """All is right as it is; without the piece it is not."""
        exact = self.on_log() == list(range(1, self._events + 1))
        assert exact is not sabotaged, self.on_log()


@pytest.fixture
def api(components: LocalComponents) -> Iterator[ApiProcess]:
    """Not started; its database is there."""
    components.up("kafka", "postgres")
    process = ApiProcess.beside(components)
    # The rows here are events of nothing.
    process.checked = False
    with ExitStack() as stack:
        stack.push(process)
        yield process


def _crash(api: ApiProcess, point: str) -> None:
    api.start(path=None, SHOPSTREAM_CRASH_AT=point)
    assert api.died() == -signal.SIGKILL


def _patches(name: str, *, sabotaged: bool) -> Sequence[str]:
    return [name] if sabotaged else []


@with_and_without
def test_the_progress_record_keeps_a_committed_batch_from_being_sent_again(
    components: LocalComponents, api: ApiProcess, *, sabotaged: bool
) -> None:
    """Protocol rule 6."""
    outbox = Outbox(components, api)
    _crash(api, "relay.after_commit")
    api.start(patches=_patches("without_progress_record", sabotaged=sabotaged))
    api.drained()
    outbox.judge(sabotaged=sabotaged)


@with_and_without
def test_fencing_keeps_a_relay_that_stood_still_from_sending_what_another_has_sent(
    components: LocalComponents, api: ApiProcess, tmp_path: Path, *, sabotaged: bool
) -> None:
    """Protocol rules 5 and 9: the lock is gone while it stands still; the log must refuse it."""
    outbox = Outbox(components, api)
    pieces = _patches("without_fencing", sabotaged=sabotaged)
    ends = tmp_path / "ends"
    ends.touch()
    faults = ["stands_still_before_produce", "hears_nothing_of_its_session"]
    patches = ["tells_how_its_terms_end", *faults, *pieces]
    api.start(path=None, patches=patches, **{TERMS_FILE: str(ends)})
    wait_until(lambda: psutil.Process(api.pid).status() == psutil.STATUS_STOPPED, "it stands still")
    second = ApiProcess(api.environ)
    second.checked = False
    with ExitStack() as stack:
        stack.push(second)
        second.start(patches=pieces)
        # The server would end its silent session by itself, after five seconds.
        api.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid)"
            " WHERE application_name = 'shopstream-relay' AND datname = current_database()"
            " AND locktype = 'advisory' AND granted"
        )
        api.drained()
        # Its first terms may have ended while the topics were made.
        before = len(ends.read_text())
        api.signal(signal.SIGCONT)
        if sabotaged:
            wait_until(lambda: len(outbox.on_log()) > EVENTS, "it has sent what it held")
        wait_until(lambda: len(ends.read_text()) > before, "its term has ended")
        # Without fencing the database is the first to refuse something.
        kind = ends.read_text()[before:].splitlines()[0]
        assert kind == ("StoreFailed" if sabotaged else "Fenced")
        outbox.judge(sabotaged=sabotaged)


@with_and_without
def test_a_commit_is_only_ever_repeated_since_what_was_not_answered_may_have_happened(
    components: LocalComponents, api: ApiProcess, *, sabotaged: bool
) -> None:
    """Protocol rule 8."""
    outbox = Outbox(components, api)
    pieces = _patches("without_commit_only_again", sabotaged=sabotaged)
    api.start(patches=["loses_the_answer_to_its_first_commit", *pieces])
    api.drained()
    outbox.judge(sabotaged=sabotaged)


@with_and_without
def test_the_order_of_seq_is_the_order_of_versions(
    components: LocalComponents, api: ApiProcess, *, sabotaged: bool
) -> None:
    """Protocol rule 1."""
    outbox = Outbox(components, api, events=9)
    api.start(patches=_patches("without_order_by_seq", sabotaged=sabotaged))
    api.drained()
    outbox.judge(sabotaged=sabotaged)


@with_and_without
def test_progress_is_final_only_when_nothing_is_open_below_it(
    components: LocalComponents, api: ApiProcess, *, sabotaged: bool
) -> None:
    """Protocol rule 7: another deployment's transaction hides the newest record for a while."""
    outbox = Outbox(components, api)
    with _open_transaction(components) as other:
        _crash(api, "relay.after_commit")
        api.start(patches=_patches("without_lso_wait", sabotaged=sabotaged))
        if sabotaged:
            api.drained()
        other.abort_transaction(30)
        api.drained()
        outbox.judge(sabotaged=sabotaged)


@contextmanager
def _open_transaction(components: LocalComponents) -> Iterator[Producer]:
    """On the progress partition, below all that is written meanwhile."""
    name = f"other-{uuid.uuid4().hex}"
    settings = KafkaConnection(components.kafka_brokers, "other").transactional_producer(name)
    producer = Producer({**settings, "transaction.timeout.ms": OPEN_MS_MAX})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(RELAY_PROGRESS, encode_progress("another", [1]), name, 0)
    assert producer.flush(30) == 0
    yield producer
