"""Vacuums the outbox as it needs it.

The server itself looks for work once a minute (autovacuum_naptime). In that time a fast relay
leaves millions of dead rows: space that nothing uses, and index entries that each take steps over.
The first pass over them costs what it costs; the relay's take stays short. ADR 0015.
"""

from typing import Any, Final

import psycopg

from shopstream_api.outbox.relay.sessions import SessionWork

LOOK_SECONDS: Final = 2.0
#: After a vacuum without gain: what an old snapshot may still see stays, and is read each time.
LOOK_SECONDS_MAX: Final = 120.0
#: A vacuum has gained if no more than this part of the dead rows is left.
LEFT_PART_MAX: Final = 0.5
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
        pause = LOOK_SECONDS
        while not self._stop.wait(pause):
            pause = next_pause(pause, gained=tidy(session))


def next_pause(pause: float, *, gained: bool | None) -> float:
    """How many seconds to wait before the next look, after ``pause`` and what `tidy` said."""
    return min(2 * pause, LOOK_SECONDS_MAX) if gained is False else LOOK_SECONDS


def tidy(session: psycopg.Connection[Any]) -> bool | None:
    """Vacuum if there is enough to do; says whether it gained, None: there was nothing to do.

    Raises psycopg.Error.
    """
    dead = _dead_rows(session)
    if dead < DEAD_ROWS_MIN:
        return None
    session.execute(_VACUUM)
    return _dead_rows(session) <= LEFT_PART_MAX * dead


def _dead_rows(session: psycopg.Connection[Any]) -> int:
    row = session.execute(_DEAD).fetchone()
    return 0 if row is None else int(row[0])
