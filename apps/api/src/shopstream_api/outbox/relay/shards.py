"""`shopstream-api shards [N]`: how many relays may publish side by side (protocol rule 4).

An aggregate's rows must never be in two shards at once, or two relays could swap them. So the
number changes only while no relay leads, nobody writes, and neither outbox nor poison has a row:
the command takes every leader's lock and the table's, and refuses otherwise. Exit code 0: done, or
it was so; 1: refused, the reason is one line on stderr.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions

from shopstream_api.db.connect import connect
from shopstream_api.outbox.relay.postgres import LEADER_LOCK
from shopstream_api.settings import ApiSettings
from shopstream_shared.kafka import METADATA_TIMEOUT_SECONDS, KafkaConnection, answer
from shopstream_shared.topics import RELAY_PROGRESS

#: The table's CHECK too. Each costs a session and a thread in every process that relays.
SHARDS_MAX: Final = 64
EXIT_REFUSED: Final = 1
#: A writer that holds the table longer is asked to stop first.
LOCK_TIMEOUT_MS: Final = 5_000
#: The locks of leaders are waited for without a word of ours.
STATEMENT_TIMEOUT_MS: Final = 60_000

_SESSION: Final[dict[str, int | str]] = {
    "lock_timeout": LOCK_TIMEOUT_MS,
    "statement_timeout": STATEMENT_TIMEOUT_MS,
}

_COUNT: Final = "SELECT count FROM outbox_shards"
# Against inserts and deletes, until the new number is committed: a statement waits for this before
# it reads the number.
_LOCK: Final = "LOCK TABLE outbox, outbox_poison IN SHARE ROW EXCLUSIVE MODE"
_LEFT: Final = "SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM outbox_poison)"
_CHANGE: Final = """
WITH shard AS (SELECT generate_series(0, %(count)s - 1) AS n),
state AS (INSERT INTO relay_state (shard) SELECT n FROM shard ON CONFLICT DO NOTHING),
position AS (INSERT INTO stream_position (shard) SELECT n FROM shard ON CONFLICT DO NOTHING)
UPDATE outbox_shards SET count = %(count)s
"""


class Refused(Exception):
    """Nothing was changed; the text says why, and what would help."""


def transactional_id_of(transactional_id: str, shard: int) -> str:
    """The one of a shard (protocol rule 5)."""
    return f"{transactional_id}-{shard}" if shard else transactional_id


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command line of this command."""
    parser = commands.add_parser("shards", help="how many relays may share the outbox")
    parser.add_argument(
        "count", nargs="?", type=int, help="the new number; relays stopped, outbox empty"
    )


def run(settings: ApiSettings, arguments: argparse.Namespace) -> int:
    """Show or change the number."""
    url = settings.database_url.get_secret_value()
    try:
        with connect(url, "shopstream-shards", _SESSION) as own:
            before = _count(own)
            if arguments.count is not None:
                admin = AdminClient(KafkaConnection(settings.brokers, "shards").admin())
                change(own, admin, before, arguments.count)
            sys.stdout.write(f"{_count(own)} shards\n")
    except Refused as error:
        return _fail(str(error))
    except psycopg.errors.LockNotAvailable:
        return _fail("somebody writes to the outbox: stop the API, then try again")
    except psycopg.Error as error:
        return _fail(f"database: {type(error).__name__}")
    except KafkaException as error:
        return _fail(f"broker: {error.args[0].str()}")
    return 0


def change(session: psycopg.Connection[Any], admin: AdminClient, before: int, count: int) -> None:
    """Raises Refused, psycopg.Error and KafkaException, then nothing has changed that matters."""
    if not 1 <= count <= SHARDS_MAX:
        raise Refused(f"{count} shards; 1 to {SHARDS_MAX} are possible")
    with _no_leaders(session, max(before, count)):
        _require_partitions(admin, count)
        with session.transaction():
            session.execute(_LOCK)
            rows, poison = session.execute(_LEFT).fetchone() or (0, 0)
            if rows:
                raise Refused(f"{rows} events wait in the outbox: let the relays publish them")
            if poison:
                raise Refused(f"{poison} events are poison: retry or drop them (shopstream-api)")
            session.execute(_CHANGE, {"count": count})


def _count(session: psycopg.Connection[Any]) -> int:
    row = session.execute(_COUNT).fetchone()
    if row is None:
        raise Refused("the database has no number of shards")
    return int(row[0])


@contextmanager
def _no_leaders(session: psycopg.Connection[Any], shards: int) -> Iterator[None]:
    """Hold the lock of every shard that is or will be."""
    try:
        for shard in range(shards):
            row = session.execute(
                "SELECT pg_try_advisory_lock(%s, %s)", (LEADER_LOCK, shard)
            ).fetchone()
            if row != (True,):
                raise Refused(f"a relay leads shard {shard}: stop all relays first")
        yield
    finally:
        session.execute("SELECT pg_advisory_unlock_all()")


def _require_partitions(admin: AdminClient, count: int) -> None:
    """Each shard has a partition of the progress topic; more of them change nothing by themselves.

    No epoch depends on their number: records are looked for in a shard's own partition.
    """
    found = admin.list_topics(timeout=METADATA_TIMEOUT_SECONDS).topics.get(RELAY_PROGRESS)
    if found is None:
        raise Refused(f"{RELAY_PROGRESS} does not exist yet")
    if len(found.partitions) < count:
        (future,) = admin.create_partitions([NewPartitions(RELAY_PROGRESS, count)]).values()
        answer(future)


def _fail(reason: str) -> int:
    sys.stderr.write(f"error: {reason}\n")
    return EXIT_REFUSED
