"""Invariants 1 and 2: what PostgreSQL knows against what is on the log.

Lost and reordered are judged of the snapshot's versions, below E1; a duplicate anywhere below E1;
a phantom below E0, where every event's transaction had ended before the snapshot was taken.
"""

from typing import Final

from shopstream_stack.verify.report import SHOWN_MAX, Invariant, Words
from shopstream_stack.verify.spool import Spool

#: The log's events below the cut, dead letters apart: nobody else reads those as events.
_VIEWS: Final = (
    """
    CREATE VIEW events AS SELECT log.* FROM log
        ANTI JOIN letters USING (topic, part, off)
    """,
    """
    CREATE VIEW below AS SELECT events.* FROM events
        JOIN cut ON cut.topic = events.topic AND cut.part = events.part AND events.off < cut.e1
    """,
    # What was published in order stands in the order of (generation, offset).
    """
    CREATE VIEW placed AS SELECT below.*, generation FROM below
        JOIN generations g ON g.topic = below.topic AND g.part = below.part
            AND below.off >= g.begun AND below.off < g.ended
    """,
)
_VERSIONS: Final = (
    # The audit row that the log lacks, and why it may.
    """
    CREATE TABLE lost AS
    SELECT a.topic, a.subject, a.sequence, a.type, a.event_id,
           CASE WHEN p.event_id IS NOT NULL THEN 'poison'
                     WHEN w.event_id IS NOT NULL THEN 'unpublished' ELSE 'lost' END AS kind,
           coalesce(p.reason, '') AS reason
    FROM (SELECT * FROM audit ANTI JOIN below USING (topic, subject, sequence)) AS a
    LEFT JOIN poison p ON p.event_id = a.event_id
    LEFT JOIN waiting w ON w.event_id = a.event_id
    """,
    """
    CREATE TABLE doubled AS
    SELECT topic, subject, sequence, count(*) - 1 AS more FROM below
    GROUP BY topic, subject, sequence HAVING count(*) > 1
    """,
    # A later version at an earlier offset; that of a doubled one counts where it is first.
    """
    CREATE TABLE swapped AS
    SELECT s.* EXCLUDE (generation, earlier_generation) FROM (
        SELECT topic, part, off, subject, sequence, generation,
               lag(sequence) OVER of_subject AS earlier, lag(part) OVER of_subject AS earlier_part,
               lag(off) OVER of_subject AS earlier_off,
               lag(generation) OVER of_subject AS earlier_generation
        FROM placed
        WINDOW of_subject AS (PARTITION BY topic, subject ORDER BY generation, part, off)
    ) AS s
    WHERE s.sequence < s.earlier
      AND (s.part = s.earlier_part OR s.generation > s.earlier_generation)
      AND NOT EXISTS (
        SELECT 1 FROM placed p JOIN doubled d USING (topic, subject, sequence)
        WHERE p.topic = s.topic AND p.subject = s.subject AND p.sequence = s.sequence
          AND (p.generation < s.generation OR (p.part = s.part AND p.off < s.off))
    )
    """,
    # Two partitions at once: nobody can tell which of the events comes first.
    """
    CREATE TABLE spread AS
    WITH moved AS (
        SELECT topic, subject FROM below GROUP BY topic, subject HAVING min(part) <> max(part)
    )
    SELECT topic, subject, generation,
           list(topic || '/' || part || '@' || off ORDER BY low, part) AS places
    FROM (
        SELECT topic, subject, generation, part, min(sequence) AS low,
               arg_min(off, sequence) AS off
        FROM placed SEMI JOIN moved USING (topic, subject)
        GROUP BY topic, subject, generation, part
    ) GROUP BY topic, subject, generation HAVING count(*) > 1
    """,
    # A version of the state without its row in the audit, or a row twice.
    """
    CREATE TABLE unaudited AS
    SELECT v.topic, v.subject, v.version, count(a.sequence) AS rows,
           coalesce(min(a.sequence), 0) AS low, coalesce(max(a.sequence), 0) AS high
    FROM versions v LEFT JOIN audit a USING (topic, subject)
    GROUP BY v.topic, v.subject, v.version
    HAVING count(a.sequence) <> v.version OR min(a.sequence) <> 1 OR max(a.sequence) <> v.version
    """,
)

_PHANTOMS: Final = """
    SELECT e.* FROM (SELECT * FROM events WHERE hash(subject) % {slices} = {slice}) AS e
    JOIN cut ON cut.topic = e.topic AND cut.part = e.part AND e.off < cut.e0
    ANTI JOIN (
        SELECT topic, subject, sequence FROM audit WHERE hash(subject) % {slices} = {slice}
    ) AS a ON a.topic = e.topic AND a.subject = e.subject AND a.sequence = e.sequence
"""
_ALTERED: Final = """
    SELECT b.topic, b.part, b.off, b.subject, b.sequence,
           concat_ws(', ', CASE WHEN b.digest <> a.digest THEN 'bytes' END,
                     CASE WHEN b.event_id <> a.event_id THEN 'id' END,
                     CASE WHEN b.type <> a.type THEN 'type' END,
                     CASE WHEN b.seller <> a.seller THEN 'seller' END,
                     CASE WHEN b.time <> a.time THEN 'time' END,
                     CASE WHEN (b.amount, b.currency) <> (a.amount, a.currency)
                          THEN 'amount' END) AS what
    FROM (SELECT * FROM below WHERE hash(subject) % {slices} = {slice}) AS b
    JOIN (SELECT * FROM audit WHERE hash(subject) % {slices} = {slice}) AS a
        USING (topic, subject, sequence)
    WHERE (b.digest, b.event_id, b.type, b.seller, b.time, b.amount, b.currency)
       <> (a.digest, a.event_id, a.type, a.seller, a.time, a.amount, a.currency)
"""


def prepare(spool: Spool) -> None:
    """Make the views that all checks of the spool ask: ``events``, and those ``below`` E1."""
    for statement in _VIEWS:
        spool.run(statement)


def versions_on_log(spool: Spool, row: Invariant) -> None:
    """Invariant 1."""
    row.look_for("lost", "duplicate", "reordered", "unaudited", "unpublished", "poison")
    for statement in _VERSIONS:
        spool.run(statement)
    row.counted["versions"] = spool.number("SELECT coalesce(sum(version), 0) FROM versions")
    row.counted["events"] = spool.number("SELECT count(*) FROM below")
    _lost(spool, row)
    _doubled(spool, row)
    _reordered(spool, row)
    spool.spell_out(
        row,
        "unaudited",
        "FROM unaudited",
        lambda topic, subject, version, rows, low, high: Words(
            f"{topic} {subject}",
            f"audit rows 1 to {version}",
            f"{rows} rows, {low} to {high}",
            _neighbours(spool, topic, subject, version),
        ),
    )


def _lost(spool: Spool, row: Invariant) -> None:
    seen = {
        "lost": "not on the log",
        "unpublished": "still in the outbox",
        "poison": "in outbox_poison",
    }
    for kind, what in seen.items():
        spool.spell_out(
            row,
            kind,
            f"SELECT * EXCLUDE (kind) FROM lost WHERE kind = '{kind}'",  # noqa: S608 - a word of ours
            lambda topic, subject, sequence, event_type, event_id, reason, what=what: Words(
                f"{topic} {subject}",
                f"version {sequence}, {event_type} {event_id}",
                f"{what}: {reason}" if reason else what,
                _neighbours(spool, topic, subject, sequence),
            ),
        )


def _neighbours(spool: Spool, topic: str, subject: str, sequence: int) -> str:
    """Where on the log the version would stand."""
    found = spool.rows(
        "SELECT sequence, part, off FROM below WHERE topic = ? AND subject = ? "
        "AND sequence BETWEEN ? AND ? ORDER BY sequence",
        [topic, subject, sequence - 1, sequence + 1],
    )
    around = [f"version {number} is at {topic}/{part}@{off}" for number, part, off in found]
    return ", ".join(around) or "no version beside it is there"


def _doubled(spool: Spool, row: Invariant) -> None:
    spool.spell_out(
        row,
        "duplicate",
        "SELECT topic, subject, sequence, list(part || '@' || off ORDER BY part, off) AS places "
        "FROM below JOIN doubled USING (topic, subject, sequence) "
        "GROUP BY topic, subject, sequence",
        lambda topic, subject, sequence, places: Words(
            f"{topic} {subject}",
            f"version {sequence} once",
            f"{len(places)} times",
            ", ".join(f"{topic}/{place}" for place in places[:SHOWN_MAX]),
        ),
        count="sum(len(places) - 1)",
    )


def _reordered(spool: Spool, row: Invariant) -> None:
    spool.spell_out(
        row,
        "reordered",
        "FROM swapped",
        lambda topic, part, off, subject, sequence, before, before_part, before_off: Words(
            f"{topic} {subject}",
            f"version {sequence} before version {before}",
            f"version {before} at {topic}/{before_part}@{before_off}",
            f"{topic}/{part}@{off}",
        ),
    )
    spool.spell_out(
        row,
        "reordered",
        "FROM spread",
        lambda topic, subject, _, places: Words(
            f"{topic} {subject}",
            "one partition until the topic gets more of them",
            ", ".join(places[:SHOWN_MAX]),
            places[-1],
        ),
    )


def no_phantoms(spool: Spool, row: Invariant) -> None:
    """Invariant 2."""
    row.look_for("phantom", "altered")
    spool.fill("phantoms", _PHANTOMS, of="log")
    spool.fill("altered", _ALTERED, of="log")
    row.counted["events"] = spool.number(
        "SELECT count(*) FROM events e JOIN cut ON cut.topic = e.topic AND cut.part = e.part "
        "AND e.off < cut.e0"
    )
    row.counted["dead letters"] = spool.number("SELECT count(*) FROM letters") + spool.number(
        "SELECT count(*) FROM unreadable ANTI JOIN letters USING (topic, part, off)"
    )
    spool.spell_out(
        row,
        "phantom",
        "SELECT topic, part, off, subject, sequence, type, event_id FROM phantoms",
        lambda topic, part, off, subject, sequence, event_type, event_id: Words(
            f"{topic} {subject}",
            "nothing: no audit row",
            f"version {sequence}, {event_type} {event_id}",
            f"{topic}/{part}@{off}",
        ),
    )
    spool.spell_out(
        row,
        "altered",
        "FROM altered",
        lambda topic, part, off, subject, sequence, what: Words(
            f"{topic} {subject}",
            f"version {sequence} as audited",
            f"another {what}",
            f"{topic}/{part}@{off}",
        ),
    )
