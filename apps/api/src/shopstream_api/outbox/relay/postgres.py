"""The outbox in PostgreSQL, on one session that also holds the leader's lock."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import msgspec
import psycopg
from psycopg.generators import send

from shopstream_api.db import arrays
from shopstream_api.db.connect import DURABLE, connect
from shopstream_api.outbox.relay.ports import (
    BATCH_BYTES_MAX,
    ReadAhead,
    Row,
    Settling,
    StoreFailed,
    Topics,
)
from shopstream_api.outbox.relay.progress import PROGRESS_SEQS_MAX, ranges_of
from shopstream_shared.logs import get_logger
from shopstream_shared.topics import TopicState

#: First key of the advisory locks of relays; the second is the shard.
LEADER_LOCK: Final = 0x72656C61  # "rela"
#: Rule 9: a stopped leader's session ends by itself, and its lock with it.
IDLE_SESSION_TIMEOUT_MS: Final = 5_000
#: Neither that nor the limit of a statement ends the session of a process that is stopped while an
#: answer is on its way to it, once the answer is more than the sockets hold.
UNREAD_TIMEOUT_MS: Final = 5_000
#: A take that is ended is begun again as it was: it must have ended by itself, however cold.
STATEMENT_TIMEOUT_MS: Final = 30_000
#: How many waiting rows are counted at most.
LAG_ROWS_MAX: Final = 10_000

_SESSION: Final[dict[str, int | str]] = {
    "idle_session_timeout": IDLE_SESSION_TIMEOUT_MS,
    "idle_in_transaction_session_timeout": IDLE_SESSION_TIMEOUT_MS,
    "statement_timeout": STATEMENT_TIMEOUT_MS,
    "tcp_user_timeout": UNREAD_TIMEOUT_MS,
    # Rule 6: a delete must be durable before its rows leave the progress record.
    **DURABLE,
    # The outbox is read in the order of its index, however small it was when it was last analyzed
    # or the plan made that is kept: else a long one is read whole for each take.
    "enable_seqscan": "off",
    "enable_sort": "off",
}

# Poison is looked up for what is taken only, an EXISTS in the innermost select may be answered by
# reading all there is; and not at all as long as there is none. ``before``: the bytes of what comes
# before a row; the first is always taken. The count: nothing, unless what is under way is still all
# there is up to its last row (rule 3).
_TAKE: Final = """
SELECT seq, topic, convert_to(aggregateid, 'UTF8'), payload, headers, time_ms, txid, txrows,
       EXISTS (SELECT FROM outbox_poison) AND EXISTS (
           SELECT FROM outbox_poison p
           WHERE p.topic = o.topic AND p.aggregateid = o.aggregateid AND p.seq < o.seq
       )
FROM (
    SELECT *, sum(octet_length(payload))
              OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (
        SELECT seq, topic, aggregateid, payload, headers, time_ms, txid, txrows
        FROM outbox
        WHERE shard = %(shard)s AND seq > %(last)s AND %(under_way)s = (
            SELECT count(*) FROM outbox WHERE shard = %(shard)s AND seq <= %(last)s
        )
        ORDER BY seq LIMIT %(rows_max)s
    ) AS oldest
) AS o
WHERE before IS NULL OR before < %(bytes_max)s
ORDER BY seq
"""
# Whole runs of numbers: rows of a batch mostly follow each other.
_GONE: Final = """
WITH gone AS (
    DELETE FROM outbox USING unnest(%(firsts)s, %(lasts)s) AS run (first, last)
    WHERE shard = %(shard)s AND seq BETWEEN first AND last
)
"""
_POSITION: Final = """
UPDATE stream_position SET stream_id = %(stream_id)s, updated_at = now() WHERE shard = %(shard)s
"""
_SETTLE: Final = _GONE + _POSITION
#: What is deleted here is still seen, and counted, here.
_SETTLE_AND_TAKE: Final = f"{_GONE}, moved AS ({_POSITION}) {_TAKE}"
_POISON: Final = """
WITH reasons AS (SELECT * FROM unnest(%(seqs)s::bigint[], %(reasons)s::text[]) AS r (seq, reason)),
gone AS (DELETE FROM outbox o USING reasons r WHERE o.seq = r.seq RETURNING o.*, r.reason),
moved AS (
    INSERT INTO outbox_poison
        (seq, id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms, shard,
         reason, at)
    SELECT seq, id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms, shard,
           reason, now() FROM gone
),
fewer AS (SELECT txid, count(*) AS n FROM gone GROUP BY txid)
UPDATE outbox o SET txrows = o.txrows - f.n FROM fewer f
WHERE o.txid = f.txid AND o.seq <> ALL(%(seqs)s)
"""
_LAG: Final = """
SELECT count(*), min(time_ms)
FROM (SELECT time_ms FROM outbox WHERE shard = %s ORDER BY seq LIMIT %s) AS waiting
"""
# Only what is not there yet is written: nothing, in all terms but the first.
_NOTE_TOPICS: Final = """
INSERT INTO relay_topics (topic, topic_id, partitions)
SELECT * FROM unnest(%s::text[], %s::text[], %s::integer[]) ON CONFLICT DO NOTHING
"""
_TOPICS: Final = "SELECT topic, topic_id, partitions FROM relay_topics"

_log = get_logger(__name__)

_headers: Final = msgspec.json.Decoder(list[tuple[str, str]]).decode


class PostgresStore:
    """An OutboxStore; connects at once. Raises StoreFailed."""

    def __init__(self, database_url: str, shard: int = 0) -> None:
        self._shard = shard
        self._one_shard = True
        with _failures():
            self._connection = connect(database_url, "shopstream-relay", _SESSION)
            arrays.adapt(self._connection)
            self._rows = self._connection.cursor()
        self._begun = ExitStack()

    def try_lead(self) -> bool:
        if not self._value("SELECT pg_try_advisory_lock(%s, %s)", (LEADER_LOCK, self._shard)):
            return False
        # Asked with the lock in hand: as long as it is, nobody changes it.
        self._one_shard = self._value("SELECT count FROM outbox_shards", ()) == 1
        return True

    def ping(self) -> None:
        """By then the server has ended the session: the answer is not awaited longer."""
        bound = self._connection.answer_seconds_max
        self._connection.answer_seconds_max = min(bound, IDLE_SESSION_TIMEOUT_MS / 1_000)
        try:
            self._value("SELECT 1", ())
        finally:
            self._connection.answer_seconds_max = bound

    def take(self, rows_max: int) -> Sequence[Row]:
        rows = self._fetch((), rows_max)
        whole = self._unsplit(rows, rows_max)
        return rows[:whole] if whole or not rows else self._take_whole(rows_max)

    def read_ahead(
        self, taken: Sequence[Row], rows_max: int, settling: Settling | None
    ) -> ReadAhead:
        under_way = len(taken) + (0 if settling is None else len(settling.seqs))
        parameters = self._behind(taken, under_way, rows_max)
        statement = _TAKE
        if settling is not None:
            statement = _SETTLE_AND_TAKE
            parameters |= self._settling(settling)
        with _failures(), ExitStack() as stack:
            pipeline = stack.enter_context(self._connection.pipeline())
            cursor = self._rows.execute(statement, parameters, prepare=True, binary=True)
            # The statement is complete and commits by itself. A server that waits for more, from a
            # process that stands still, waits past all its limits and keeps the lock (rule 9).
            # psycopg's own `sync` would wait for the answer.
            self._connection.pgconn.pipeline_sync()
            # A long list of numbers takes more than one step.
            self._connection.wait(
                send(self._connection.pgconn), timeout=IDLE_SESSION_TIMEOUT_MS / 1_000
            )
            pipeline.result_queue.append(None)
            self._begun = begun = stack.pop_all()

        def rows() -> Sequence[Row]:
            with _failures(), begun:
                found = _rows(cursor.fetchall())
            return found[: self._unsplit(found, rows_max)]

        return rows

    def _unsplit(self, rows: Sequence[Row], rows_max: int) -> int:
        """How many of the rows, from the first, split no transaction (rule 4)."""
        if not _is_full(rows, rows_max) or not self._one_shard:
            # All there is, in one statement's snapshot: nothing can be split.
            return len(rows)
        return _whole(rows)

    def _take_whole(self, rows_max: int) -> Sequence[Row]:
        """More than a batch, until a transaction that is larger than one is complete."""
        with _failures(), self._connection.transaction():
            # Rule 4: what completes a transaction must come from the snapshot that showed its
            # beginning, or a slower one that commits in between would be split itself.
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            rows = self._fetch((), rows_max)
            while not (whole := _whole(rows)) and len(rows) < PROGRESS_SEQS_MAX:
                more = self._fetch(rows, min(rows_max, PROGRESS_SEQS_MAX - len(rows)))
                if not more:
                    break
                rows += more
        if rows and not whole:
            # Its other rows are not there and will never be, or are more than a record may list.
            _log.error("a database transaction is split", rows=len(rows), first_seq=rows[0].seq)
        return rows[:whole] if whole else rows

    def settle(self, settling: Settling) -> None:
        self._execute(_SETTLE, self._settling(settling))

    def poison(self, reasons: Mapping[int, str]) -> int:
        before = self._value("SELECT count(*) FROM outbox_poison", ())
        self._execute(_POISON, {"seqs": list(reasons.keys()), "reasons": list(reasons.values())})
        return int(self._value("SELECT count(*) FROM outbox_poison", ()) - before)

    def identity(self) -> tuple[str, str | None]:
        with _failures():
            row = self._connection.execute(
                "SELECT outbox_id::text, transactional_id FROM relay_state WHERE shard = %s",
                (self._shard,),
            ).fetchone()
        if row is None:
            raise StoreFailed(f"there is no shard {self._shard}")
        return row[0], row[1]

    def remember_transactional_id(self, transactional_id: str) -> None:
        self._execute(
            "UPDATE relay_state SET transactional_id = %(id)s WHERE shard = %(shard)s",
            {"id": transactional_id, "shard": self._shard},
        )

    def note_topics(self, found: Topics) -> None:
        with _failures():
            self._connection.execute(
                _NOTE_TOPICS,
                (
                    list(found),
                    [state.id for state in found.values()],
                    [state.partitions for state in found.values()],
                ),
            )

    def topics(self) -> Topics:
        with _failures():
            rows = self._connection.execute(_TOPICS).fetchall()
        return {topic: TopicState(topic_id, partitions) for topic, topic_id, partitions in rows}

    def lag(self) -> tuple[int, int | None]:
        with _failures():
            row = self._connection.execute(_LAG, (self._shard, LAG_ROWS_MAX)).fetchone()
        return (0, None) if row is None else (row[0], row[1])

    def close(self) -> None:
        self._connection.close()
        with suppress(psycopg.Error):
            # What was begun and is not awaited any more.
            self._begun.close()

    def _fetch(self, before: Sequence[Row], rows_max: int) -> list[Row]:
        """What comes behind ``before``, the oldest rows that there are."""
        parameters = self._behind(before, len(before), rows_max)
        with _failures():
            cursor = self._rows.execute(_TAKE, parameters, prepare=True, binary=True)
            return _rows(cursor.fetchall())

    def _behind(self, rows: Sequence[Row], under_way: int, rows_max: int) -> dict[str, object]:
        return {
            "shard": self._shard,
            "last": rows[-1].seq if rows else 0,
            "under_way": under_way,
            "rows_max": rows_max,
            "bytes_max": BATCH_BYTES_MAX,
        }

    def _settling(self, settling: Settling) -> dict[str, object]:
        runs = ranges_of(settling.seqs)
        return {
            "firsts": arrays.bigints(first for first, _ in runs),
            "lasts": arrays.bigints(last for _, last in runs),
            "stream_id": settling.stream_id,
            "shard": self._shard,
        }

    def _value(self, statement: str, parameters: tuple[object, ...]) -> Any:
        with _failures():
            row = self._connection.execute(statement.encode(), parameters).fetchone()
        return None if row is None else row[0]

    def _execute(self, statement: str, parameters: Mapping[str, object]) -> None:
        with _failures():
            self._connection.execute(statement.encode(), parameters)


def _rows(found: Sequence[tuple[Any, ...]]) -> list[Row]:
    return [
        Row(seq, topic, key, value, _headers(headers), time_ms, txid, txrows, blocked)
        for seq, topic, key, value, headers, time_ms, txid, txrows, blocked in found
    ]


def _is_full(rows: Sequence[Row], rows_max: int) -> bool:
    """Whether there may be more than these."""
    return len(rows) >= rows_max or sum(len(row.value) for row in rows) >= BATCH_BYTES_MAX


def _whole(rows: Sequence[Row]) -> int:
    """How many of the rows, from the first, are the longest beginning that splits nothing."""
    missing: dict[int, int] = {}
    whole = 0
    for index, row in enumerate(rows, start=1):
        if row.txrows > 1:
            left = missing.get(row.txid, row.txrows) - 1
            if left > 0:
                missing[row.txid] = left
            else:
                missing.pop(row.txid, None)
        if not missing:
            whole = index
    return whole


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        # What the server says first names no values of rows; its details would.
        said = error.diag.message_primary
        kind = type(error).__name__
        raise StoreFailed(f"database: {kind}: {said}" if said else f"database: {kind}") from error
