"""Keep all relays from publishing for a while, safely.

Inside `relays_held` no relay of this outbox can write to the log: the leader's lock of each shard
is ours, and each transactional id in use was fenced after that, so a leader that was stopped in the
middle cannot commit when it wakes (protocol rule 8 lets it only repeat, and Kafka refuses that).
The leader before us loses its session, which is a fault that it survives anyway; what it had
committed but not deleted stands in its progress record, for the next leader to find.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from shopstream_api.db.connect import connect
from shopstream_api.outbox.relay.kafka import KafkaLog
from shopstream_api.outbox.relay.postgres import LEADER_LOCK
from shopstream_api.outbox.topics.books import Books
from shopstream_api.outbox.topics.errors import Refused
from shopstream_shared.kafka import KafkaConnection

#: Taking the locks of leaders that are stopped or far away.
LOCK_SECONDS_MAX: Final = 30.0
LOCK_TRY_MS: Final = 1_000
#: A command that is stopped gives the locks back; each of its waits pings more often.
IDLE_SESSION_TIMEOUT_MS: Final = 30_000
STATEMENT_TIMEOUT_MS: Final = 60_000

_SESSION: Final[dict[str, int | str]] = {
    "idle_session_timeout": IDLE_SESSION_TIMEOUT_MS,
    "statement_timeout": STATEMENT_TIMEOUT_MS,
    "lock_timeout": LOCK_TRY_MS,
    "synchronous_commit": "on",
}
_HOLDERS: Final = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND classid::bigint = %s AND objid::bigint = %s AND objsubid = 2
  AND granted AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@contextmanager
def opened(database_url: str) -> Iterator[Books]:
    """The books, with nothing held."""
    with connect(database_url, "shopstream-topics", _SESSION) as session:
        yield Books(session)


@contextmanager
def relays_held(database_url: str, connection: KafkaConnection) -> Iterator[Books]:
    """No relay publishes inside; the locks end with the session that the books are on.

    Raises Refused, psycopg.Error, or LogFailed from fencing.
    """
    with opened(database_url) as books:
        for shard in books.transactional_ids():
            _take(books, shard)
        # Read again: the leader that was just ended may have changed it.
        for shard, transactional_id in books.transactional_ids().items():
            if transactional_id is not None:
                log = KafkaLog(connection, books.ping, shard)
                try:
                    log.fence(transactional_id)
                finally:
                    log.close()
        yield books


def _take(books: Books, shard: int) -> None:
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    while True:
        books.session.execute(_HOLDERS, (LEADER_LOCK, shard))
        try:
            books.session.execute("SELECT pg_advisory_lock(%s, %s)", (LEADER_LOCK, shard))
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > deadline:
                raise Refused(f"the relay of shard {shard} cannot be paused") from None
        else:
            return
