"""Events the broker refuses for good, for a person to decide (protocol rule 11).

``ls`` shows them; ``retry`` puts an aggregate's events back under their old numbers, all together,
so that their order holds; ``drop`` gives up an event: its sequence will be missing on the log, and
verify will say so.
"""

import argparse
import sys
from typing import Final

import psycopg

from shopstream_api.db.connect import connect

LIST_ROWS_MAX: Final = 1_000
#: For all there are, at once.
STATEMENT_TIMEOUT_MS: Final = 60_000
EXIT_FAILED: Final = 1

_SESSION: Final[dict[str, int | str]] = {"statement_timeout": STATEMENT_TIMEOUT_MS}

_LIST: Final = """
SELECT seq, at, topic, aggregateid, type, length(payload), reason
FROM outbox_poison ORDER BY seq LIMIT %s
"""
#: Given rows, and all others of their aggregates: a part of them would break the order.
_RETRY: Final = """
WITH chosen AS (
    SELECT DISTINCT topic, aggregateid FROM outbox_poison
    WHERE %(all)s OR seq = ANY(%(seqs)s::bigint[])
),
gone AS (
    DELETE FROM outbox_poison p USING chosen c
    WHERE p.topic = c.topic AND p.aggregateid = c.aggregateid RETURNING p.*
)
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
            statement = _RETRY if arguments.action == "retry" else _DROP
            done = session.execute(statement.encode(), {"seqs": seqs, "all": not seqs}).rowcount
    except psycopg.Error as error:
        sys.stderr.write(f"error: database: {error}\n")
        return EXIT_FAILED
    sys.stdout.write(f"{arguments.action}: {done} events\n")
    return 0


def _list(session: "psycopg.Connection[tuple[object, ...]]") -> int:
    for row in session.execute(_LIST, (LIST_ROWS_MAX,)):
        sys.stdout.write("\t".join(map(str, row)) + "\n")
    return 0
