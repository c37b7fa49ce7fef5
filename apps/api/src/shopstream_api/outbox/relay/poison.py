"""Events the broker refuses for good, for a person to decide (protocol rule 11).

``ls`` shows them; ``retry`` puts all events of an aggregate back under their old numbers, the
oldest first, so that their order holds; ``drop`` gives up an event: its sequence will be missing on
the log, and verify will say so.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from shopstream_api.db.connect import connect
from shopstream_api.outbox.relay.progress import PROGRESS_SEQS_MAX

LIST_ROWS_MAX: Final = 1_000
#: For all there are, at once.
STATEMENT_TIMEOUT_MS: Final = 60_000
EXIT_FAILED: Final = 1

_SESSION: Final[dict[str, int | str]] = {"statement_timeout": STATEMENT_TIMEOUT_MS}

_LIST: Final = """
SELECT seq, at, topic, aggregateid, type, length(payload), reason
FROM outbox_poison ORDER BY seq LIMIT %s
"""
#: What one transaction puts back: all of it has to fit into one batch of the relay (rule 4).
RETRY_ROWS_MAX: Final = PROGRESS_SEQS_MAX // 2

#: Given rows, and all others of their aggregates: a part of them would break the order.
_CHOSEN: Final = """
WITH chosen AS (
    SELECT DISTINCT topic, aggregateid FROM outbox_poison
    WHERE %(all)s OR seq = ANY(%(seqs)s::bigint[])
)
SELECT seq FROM outbox_poison JOIN chosen USING (topic, aggregateid) ORDER BY seq
"""
_RETRY: Final = """
WITH gone AS (DELETE FROM outbox_poison WHERE seq = ANY(%(seqs)s::bigint[]) RETURNING *)
INSERT INTO outbox (seq, id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms,
                    txid, txrows, shard)
OVERRIDING SYSTEM VALUE
SELECT seq, id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms,
       pg_current_xact_id()::text::bigint, count(*) OVER (), shard
FROM gone ORDER BY seq
"""
_DROP: Final = "DELETE FROM outbox_poison WHERE seq = ANY(%(seqs)s::bigint[])"


def run(database_url: str, arguments: argparse.Namespace) -> int:
    """Do one action and say what was done; the exit code of the command."""
    seqs: list[int] = arguments.seq
    if arguments.action == "drop" and not seqs:
        sys.stderr.write("error: drop needs the numbers of the events to give up\n")
        return 2
    try:
        with connect(database_url, "shopstream-poison", _SESSION) as session:
            if arguments.action == "ls":
                return _list(session)
            if arguments.action == "retry":
                done = _retry(session, seqs)
            else:
                done = session.execute(_DROP, {"seqs": seqs}).rowcount
    except psycopg.Error as error:
        sys.stderr.write(f"error: database: {error}\n")
        return EXIT_FAILED
    sys.stdout.write(f"{arguments.action}: {done} events\n")
    return 0


def _retry(session: "psycopg.Connection[tuple[Any, ...]]", seqs: Sequence[int]) -> int:
    """Oldest first: whatever is still among the poison holds back only what comes after it."""
    chosen = [seq for (seq,) in session.execute(_CHOSEN, {"seqs": seqs, "all": not seqs})]
    return sum(
        session.execute(_RETRY, {"seqs": chosen[first : first + RETRY_ROWS_MAX]}).rowcount
        for first in range(0, len(chosen), RETRY_ROWS_MAX)
    )


def _list(session: "psycopg.Connection[tuple[object, ...]]") -> int:
    for row in session.execute(_LIST, (LIST_ROWS_MAX,)):
        sys.stdout.write("\t".join(map(str, row)) + "\n")
    return 0
