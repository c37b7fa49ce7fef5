"""What the database holds about topics: the relay's state, the boundaries, what still waits."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.rows import TupleRow

from shopstream_api.outbox.relay.ports import Topics
from shopstream_shared.boundaries import Boundary
from shopstream_shared.stream_id import StreamPosition
from shopstream_shared.topics import TopicState

# As many rows of a transaction as are still there: the relay knows by it when it has them all.
_DELETE: Final = """
WITH gone AS (DELETE FROM outbox WHERE id::text = ANY(%(ids)s) RETURNING txid),
fewer AS (SELECT txid, count(*) AS n FROM gone GROUP BY txid),
rest AS (
    UPDATE outbox o SET txrows = o.txrows - f.n FROM fewer f
    WHERE o.txid = f.txid AND o.id::text <> ALL(%(ids)s)
)
SELECT count(*) FROM gone
"""
_ADOPT: Final = """
INSERT INTO relay_topics (topic, topic_id, partitions) VALUES (%(topic)s, %(id)s, %(partitions)s)
ON CONFLICT (topic) DO UPDATE SET topic_id = excluded.topic_id, partitions = excluded.partitions,
    generation = relay_topics.generation + (relay_topics.topic_id <> excluded.topic_id)::integer,
    since = now()
"""
_BOUNDARY: Final = """
INSERT INTO topic_boundaries (topic, topic_id, partitions, ends) VALUES (%s, %s, %s, %s)
ON CONFLICT (topic, topic_id, partitions) DO UPDATE SET ends = excluded.ends, at = now()
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A topic as the relay's state has it; ``generation`` counts how often one was adopted."""

    state: TopicState
    generation: int


@dataclass(frozen=True, slots=True)
class Books:
    """On one session, in autocommit. Methods raise psycopg.Error."""

    session: psycopg.Connection[TupleRow]

    def stored(self) -> Mapping[str, Stored]:
        rows = self._rows("SELECT topic, topic_id, partitions, generation FROM relay_topics")
        return {row[0]: Stored(TopicState(row[1], row[2]), row[3]) for row in rows}

    def adopt(self, topics: Topics) -> None:
        """Take the topics as they are, all or none; another id is a new generation."""
        with self.session.transaction():
            for topic, state in topics.items():
                self.session.execute(
                    _ADOPT, {"topic": topic, "id": state.id, "partitions": state.partitions}
                )

    def note_boundary(self, boundary: Boundary) -> None:
        parts = (boundary.topic, boundary.topic_id, boundary.partitions, list(boundary.ends))
        self.session.execute(_BOUNDARY, parts)

    def boundaries(self) -> Sequence[Boundary]:
        rows = self._rows(
            "SELECT topic, topic_id, partitions, ends FROM topic_boundaries ORDER BY at, partitions"
        )
        return [Boundary(row[0], row[1], row[2], tuple(row[3])) for row in rows]

    def transactional_ids(self) -> Mapping[int, str | None]:
        """By shard; None where no relay has led yet."""
        return dict(self._rows("SELECT shard, transactional_id FROM relay_state ORDER BY shard"))

    def shards(self) -> int:
        """How many shards the outbox has; each has a partition of the progress topic."""
        count: int = self._value("SELECT count FROM outbox_shards")
        return count

    def positions(self) -> Sequence[StreamPosition]:
        """The stream positions that the relays stored last."""
        rows = self._rows("SELECT stream_id FROM stream_position WHERE stream_id IS NOT NULL")
        return [StreamPosition.decode(row[0]) for row in rows]

    def newest_waiting(self) -> int | None:
        """The highest ``seq`` in the outbox."""
        seq: int | None = self._value("SELECT max(seq) FROM outbox")
        return seq

    def waits_up_to(self, seq: int) -> bool:
        """Whether a row up to ``seq`` is still to be published."""
        return bool(self._value("SELECT EXISTS (SELECT FROM outbox WHERE seq <= %s)", seq))

    def oldest_ms(self) -> int | None:
        """The time of the oldest event in the outbox."""
        time_ms: int | None = self._value("SELECT min(time_ms) FROM outbox")
        return time_ms

    def waiting(self, topics: Collection[str], rows_max: int) -> int:
        """How many rows of these topics are among the first ``rows_max`` of each shard."""
        count: int = self._value(
            """
            SELECT count(*) FROM relay_state s CROSS JOIN LATERAL (
                SELECT topic FROM outbox WHERE shard = s.shard ORDER BY seq LIMIT %s
            ) AS o WHERE o.topic = ANY(%s)
            """,
            rows_max,
            list(topics),
        )
        return count

    def delete_published(self, event_ids: Collection[str]) -> int:
        """Delete the rows of these events; answers how many there were."""
        with self.session.transaction():
            row = self.session.execute(_DELETE, {"ids": list(event_ids)}).fetchone()
        return 0 if row is None else int(row[0])

    def ping(self) -> None:
        """Raises when the session, and with it the leader's locks, is gone."""
        self.session.execute("SELECT 1")

    def _rows(self, statement: str) -> list[TupleRow]:
        return self.session.execute(statement.encode()).fetchall()

    def _value(self, statement: str, *parameters: object) -> Any:
        row = self.session.execute(statement.encode(), parameters).fetchone()
        return None if row is None else row[0]
