"""A connection to the database that stays open and passes nothing more, as networks leave them."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from threading import Event, Thread

import psycopg
import pytest
from anyio.from_thread import start_blocking_portal
from tests.support.app import migrated_database
from tests.support.components import LocalComponents
from tests.support.link import link_to
from tests.support.system import wait_until

from shopstream_api.db.connect import BoundedConnection, connect
from shopstream_api.outbox.relay import notifier, postgres, sessions, threads
from shopstream_api.outbox.relay.notifier import Notifier
from shopstream_api.outbox.relay.ports import Settling, StoreFailed
from shopstream_api.outbox.relay.postgres import PostgresStore
from shopstream_api.outbox.relay.status import RelayStatuses
from shopstream_api.outbox.relay.threads import CHANNEL, Listener
from shopstream_api.outbox.relay.wakeup import Wakeups
from shopstream_stack.chaos.link import Link

SILENCE_SECONDS = 0.3
#: Of 24 bytes each.
LONG_LIST = 500_000


@pytest.fixture
def through(components: LocalComponents) -> Iterator[tuple[Link, str, str]]:
    """A link; a migrated database's address through it and past it."""
    components.up("postgres")
    direct = migrated_database(components)
    with link_to(direct) as (link, linked):
        yield link, linked, direct


class _Ear(Wakeups):
    """Says whether it was woken."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = Event()

    def wake(self) -> None:
        self.woken.set()


def _short(
    database_url: str, name: str = "test", options: Mapping[str, int | str] | None = None
) -> BoundedConnection:
    connection = connect(database_url, name, options)
    connection.answer_seconds_max = SILENCE_SECONDS
    return connection


def test_an_answer_that_does_not_come_ends_the_connection(through: tuple[Link, str, str]) -> None:
    link, linked, _ = through
    with closing(_short(linked)) as session:
        session.execute("SELECT 1")
        link.go_silent()
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
        # Its answer may still come, to whatever was asked next.
        assert session.closed
    with closing(_short(linked)) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)


def test_an_answer_that_takes_less_than_the_bound_is_waited_for(
    through: tuple[Link, str, str],
) -> None:
    _, linked, _ = through
    with closing(connect(linked, "test", {"statement_timeout": 60_000})) as session:
        slept = session.execute("SELECT 1 FROM pg_sleep(%s)", (SILENCE_SECONDS,)).fetchone()
        assert slept == (1,)


def test_the_server_ends_what_takes_too_long_before_we_stop_waiting(
    through: tuple[Link, str, str],
) -> None:
    """Else a statement would commit after we had given it up."""
    _, linked, _ = through
    with closing(connect(linked, "test", {"statement_timeout": 50})) as session:
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("SELECT pg_sleep(60)")
        assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_relay_without_a_standby_leads_again(
    through: tuple[Link, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, linked, _ = through
    monkeypatch.setattr(postgres, "connect", _short)
    with closing(PostgresStore(linked)) as store:
        assert store.try_lead()
        link.go_silent()
        with pytest.raises(StoreFailed):
            store.take(10)
    with closing(PostgresStore(linked)) as store:

        def leads() -> bool:
            store.ping()
            return store.try_lead()

        # The server ends the silent session, and its lock, after IDLE_SESSION_TIMEOUT_MS.
        wait_until(leads, "the lock is free", seconds_max=15)


def test_a_leader_that_stops_while_rows_are_sent_to_it_loses_its_lock(
    through: tuple[Link, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protocol rule 9. To the server it is busy: no limit on silence or on a statement applies."""
    _, _, direct = through
    for name in ("statement_timeout", "tcp_user_timeout"):
        monkeypatch.setitem(postgres._SESSION, name, int(postgres._SESSION[name]) // 10)
    with closing(PostgresStore(direct)) as leader, closing(PostgresStore(direct)) as standby:
        assert leader.try_lead()
        # What a process that is stopped here leaves behind: a long answer that nobody reads.
        leader._connection.pgconn.send_query(b"SELECT repeat('x', 32 * 1024 * 1024)")
        wait_until(standby.try_lead, "the lock is free", seconds_max=15)


def test_a_leader_that_stops_with_rows_asked_for_loses_its_lock(
    through: tuple[Link, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protocol rule 9. A server that were waiting for the end of a pipeline would wait for ever."""
    _, _, direct = through
    monkeypatch.setitem(postgres._SESSION, "idle_session_timeout", 500)
    with closing(PostgresStore(direct)) as leader, closing(PostgresStore(direct)) as standby:
        assert leader.try_lead()
        read = leader.read_ahead((), 10, None)
        wait_until(standby.try_lead, "the lock is free", seconds_max=15)
        with pytest.raises(StoreFailed):
            read()


def test_a_long_list_of_numbers_is_sent_whole_before_its_rows_are_awaited(
    through: tuple[Link, str, str],
) -> None:
    """Protocol rule 9, as above: the server must have the end of what it was asked."""
    _, _, direct = through
    with (
        closing(PostgresStore(direct)) as store,
        psycopg.connect(direct, autocommit=True) as session,
    ):
        # No two follow each other: runs of one, more bytes than two sockets hold.
        store.read_ahead((), 10, Settling(range(1, 2 * LONG_LIST, 2), "a position"))

        def is_settled() -> bool:
            found = session.execute("SELECT stream_id FROM stream_position WHERE shard = 0")
            return found.fetchone() == ("a position",)

        wait_until(is_settled, "it is settled", seconds_max=15)


def test_a_listener_hears_again(
    through: tuple[Link, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, linked, direct = through
    monkeypatch.setattr(threads, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(sessions, "connect", _short)
    ear = _Ear()
    listener = Listener(linked, ear)
    thread = Thread(target=listener.run)
    thread.start()
    try:
        with psycopg.connect(direct, autocommit=True) as session:

            def heard() -> bool:
                ear.woken.clear()
                session.execute(f"NOTIFY {CHANNEL}".encode())
                return ear.woken.wait(SILENCE_SECONDS)

            wait_until(heard, "it listens")
            link.go_silent()
            wait_until(heard, "it listens again")
    finally:
        listener.stop()
        thread.join()


def test_a_notifier_tells_again(
    through: tuple[Link, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, linked, direct = through
    monkeypatch.setattr(notifier, "ANSWER_SECONDS_MAX", SILENCE_SECONDS)
    monkeypatch.setattr(notifier, "RETRY_SECONDS", SILENCE_SECONDS)
    with (
        psycopg.connect(direct, autocommit=True) as session,
        start_blocking_portal() as portal,
    ):
        session.execute(f"LISTEN {CHANNEL}".encode())
        telling = Notifier(linked, Wakeups(), RelayStatuses())
        running = portal.start_task_soon(telling.run)

        def told() -> bool:
            portal.call(telling.committed)
            return any(session.notifies(timeout=SILENCE_SECONDS, stop_after=1))

        try:
            wait_until(told, "it tells")
            link.go_silent()
            # What was on its way is not there any more.
            wait_until(lambda: not told(), "it is not heard")
            wait_until(told, "it tells again")
        finally:
            running.cancel()


def test_the_answer_to_a_ping_is_not_awaited_longer_than_the_session_may_live(
    through: tuple[Link, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that has lost its lock without a word must not wait as long as a take may last."""
    link, linked, _ = through
    monkeypatch.setattr(postgres, "IDLE_SESSION_TIMEOUT_MS", SILENCE_SECONDS * 1_000)
    with closing(PostgresStore(linked)) as store:
        store.ping()
        assert store._connection.answer_seconds_max > postgres.STATEMENT_TIMEOUT_MS / 1_000
        link.go_silent()
        begun = time.monotonic()
        with pytest.raises(StoreFailed):
            store.ping()
        assert time.monotonic() - begun < postgres.STATEMENT_TIMEOUT_MS / 1_000 / 2
