"""Counts the processes that relay, and is counted, by advisory locks of a kind of their own."""

import random
from collections.abc import Callable
from typing import Any, Final

import psycopg

from shopstream_api.outbox.relay.postgres import IDLE_SESSION_TIMEOUT_MS
from shopstream_api.outbox.relay.sessions import SessionWork
from shopstream_api.outbox.relay.share import Share

#: First key of these locks, which are shared; the second is a process's own random number.
MEMBER_LOCK: Final = 0x6D656D62  # "memb"
LOOK_SECONDS: Final = 1.0
STATEMENT_TIMEOUT_MS: Final = 5_000

# A stopped process must not be counted for long, as it must not lead for long (rule 9).
_SESSION: Final[dict[str, int | str]] = {
    "idle_session_timeout": IDLE_SESSION_TIMEOUT_MS,
    "statement_timeout": STATEMENT_TIMEOUT_MS,
}
_LOOK: Final = """
SELECT (SELECT s.count FROM outbox_shards s), count(DISTINCT objid)
FROM pg_locks
WHERE locktype = 'advisory' AND classid::bigint = %s AND objsubid = 2 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Members(SessionWork):
    """A thread's work. With the database away the last count stands."""

    def __init__(self, database_url: str, share: Share, shards_seen: Callable[[int], None]) -> None:
        super().__init__(database_url, "shopstream-members", _SESSION)
        self._share = share
        self._shards_seen = shards_seen
        self._number = random.SystemRandom().randrange(2**31)

    def _attend(self, session: psycopg.Connection[Any]) -> None:
        """Count, and be counted unless excluded, which begins and ends with a session."""
        excluded = self._share.excluded()
        if not excluded:
            session.execute("SELECT pg_advisory_lock_shared(%s, %s)", (MEMBER_LOCK, self._number))
        while not self._stop.is_set() and self._share.excluded() == excluded:
            row = session.execute(_LOOK, (MEMBER_LOCK,)).fetchone()
            if row is not None:
                self._share.see(*row)
                self._shards_seen(row[0])
            self._stop.wait(LOOK_SECONDS)
