"""Vacuums the outbox as it needs it.

The server itself looks for work once a minute (autovacuum_naptime). In that time a fast relay
leaves millions of dead rows: space that nothing uses, and index entries that each take steps over.
The first pass over them costs what it costs; the relay's take stays short. ADR 0015.
"""

from typing import Any, Final

import psycopg

from shopstream_api.outbox.relay.sessions import SessionWork

LOOK_SECONDS: Final = 2.0
#: Some 30 MiB of a table whose live part is mostly empty.
DEAD_ROWS_MIN: Final = 20_000
#: For a table that is mostly in memory.
STATEMENT_TIMEOUT_MS: Final = 300_000

_SESSION: Final[dict[str, int | str]] = {
    "vacuum_cost_delay": 0,
    "statement_timeout": STATEMENT_TIMEOUT_MS,
}
_DEAD: Final = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'outbox'::regclass"
# Beside the writers: the end of the file is not cut off, which would lock them out, and a vacuum
# that is under way already is not waited for.
_VACUUM: Final = "VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF, SKIP_LOCKED) outbox"


class Housekeeper(SessionWork):
    """A thread's work; several processes may do it, the server lets one at a time."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url, "shopstream-housekeeping", _SESSION)

    def _attend(self, session: psycopg.Connection[Any]) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            tidy(session)


def tidy(session: psycopg.Connection[Any]) -> bool:
    """Vacuum if there is enough to do; says whether it did. Raises psycopg.Error."""
    row = session.execute(_DEAD).fetchone()
    if row is None or row[0] < DEAD_ROWS_MIN:
        return False
    session.execute(_VACUUM)
    return True
