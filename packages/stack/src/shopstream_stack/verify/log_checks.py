"""Invariants 1 and 2: what PostgreSQL knows against what is on the log.

Lost and reordered are judged of the snapshot's versions, below E1; a duplicate anywhere below E1;
a phantom below E0, where every event's transaction had ended before the snapshot was taken.
"""

from typing import Final

from shopstream_stack.verify.report import SHOWN_MAX, Invariant, Violation
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
)
_VERSIONS: Final = (
    # The audit row that the log lacks, and why it may.
    """
    CREATE TABLE lost AS
    SELECT a.*, CASE WHEN p.event_id IS NOT NULL THEN 'poison'
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
    SELECT s.* FROM (
        SELECT topic, part, off, subject, sequence,
               lag(sequence) OVER of_subject AS before, lag(off) OVER of_subject AS before_off
        FROM below
        WINDOW of_subject AS (PARTITION BY topic, part, subject ORDER BY off)
    ) AS s
    WHERE s.sequence < s.before AND NOT EXISTS (
        SELECT 1 FROM below b JOIN doubled d USING (topic, subject, sequence)
        WHERE b.topic = s.topic AND b.subject = s.subject AND b.sequence = s.sequence
          AND b.part = s.part AND b.off < s.off
    )
    """,
    # With more partitions a subject may move to another one (protocol rule 14), once.
    """
    CREATE TABLE spread AS
    WITH moved AS (
        SELECT topic, subject FROM below GROUP BY topic, subject HAVING min(part) <> max(part)
    ), ranges AS (
        SELECT topic, subject, part, min(sequence) AS low, max(sequence) AS high, min(off) AS off
        FROM below SEMI JOIN moved USING (topic, subject) GROUP BY topic, subject, part
    )
    SELECT r.topic, r.subject, r.part, r.off, r.low, q.part AS other, q.high
    FROM ranges r JOIN ranges q USING (topic, subject)
    WHERE r.part <> q.part AND r.low > q.low AND r.low < q.high
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
    CREATE TABLE phantoms AS
    SELECT e.* FROM events e
    JOIN cut ON cut.topic = e.topic AND cut.part = e.part AND e.off < cut.e0
    ANTI JOIN audit a ON a.topic = e.topic AND a.subject = e.subject AND a.sequence = e.sequence
"""
_ALTERED: Final = """
    CREATE TABLE altered AS
    SELECT b.topic, b.part, b.off, b.subject, b.sequence,
           concat_ws(', ', CASE WHEN b.digest <> a.digest THEN 'bytes' END,
                     CASE WHEN b.event_id <> a.event_id THEN 'id' END,
                     CASE WHEN b.type <> a.type THEN 'type' END,
                     CASE WHEN b.seller <> a.seller THEN 'seller' END,
                     CASE WHEN b.time <> a.time THEN 'time' END,
                     CASE WHEN (b.amount, b.currency) <> (a.amount, a.currency)
                          THEN 'amount' END) AS what
    FROM below b JOIN audit a USING (topic, subject, sequence)
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
    count = spool.number("SELECT count(*) FROM unaudited")
    first = spool.first("FROM unaudited ORDER BY ALL")
    row.found_all(
        "unaudited",
        count,
        [
            Violation(
                kind="unaudited",
                aggregate=f"{topic} {subject}",
                expected=f"audit rows 1 to {version}",
                seen=f"{rows} rows, {low} to {high}",
            )
            for topic, subject, version, rows, low, high in first
        ],
    )


def _lost(spool: Spool, row: Invariant) -> None:
    seen = {
        "lost": "not on the log",
        "unpublished": "still in the outbox",
        "poison": "in outbox_poison",
    }
    for kind, count in spool.rows("SELECT kind, count(*) FROM lost GROUP BY kind ORDER BY kind"):
        first = spool.first(
            "SELECT topic, subject, sequence, type, event_id, reason FROM lost WHERE kind = ? "
            "ORDER BY ALL",
            [kind],
        )
        row.found_all(
            kind,
            count,
            [
                Violation(
                    kind=kind,
                    aggregate=f"{topic} {subject}",
                    expected=f"version {sequence}, {event_type} {event_id}",
                    seen=f"{seen[kind]}: {reason}" if reason else seen[kind],
                    place=_neighbours(spool, topic, subject, sequence),
                )
                for topic, subject, sequence, event_type, event_id, reason in first
            ],
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
    count = spool.number("SELECT coalesce(sum(more), 0) FROM doubled")
    first = spool.first(
        "SELECT topic, subject, sequence, list(part || '@' || off ORDER BY part, off) "
        "FROM below JOIN doubled USING (topic, subject, sequence) "
        "GROUP BY topic, subject, sequence ORDER BY ALL"
    )
    row.found_all(
        "duplicate",
        count,
        [
            Violation(
                kind="duplicate",
                aggregate=f"{topic} {subject}",
                expected=f"version {sequence} once",
                seen=f"{len(places)} times",
                place=", ".join(f"{topic}/{place}" for place in places[:SHOWN_MAX]),
            )
            for topic, subject, sequence, places in first
        ],
    )


def _reordered(spool: Spool, row: Invariant) -> None:
    swapped = spool.first("FROM swapped ORDER BY ALL")
    violations = [
        Violation(
            kind="reordered",
            aggregate=f"{topic} {subject}",
            expected=f"version {sequence} before version {before}",
            seen=f"version {before} at {topic}/{part}@{before_off}",
            place=f"{topic}/{part}@{off}",
        )
        for topic, part, off, subject, sequence, before, before_off in swapped
    ]
    spread = spool.first("FROM spread ORDER BY ALL")
    violations += [
        Violation(
            kind="reordered",
            aggregate=f"{topic} {subject}",
            expected="one partition, or one after the other",
            seen=f"version {low} beside up to version {high} in partition {other}",
            place=f"{topic}/{part}@{off}",
        )
        for topic, subject, part, off, low, other, high in spread
    ]
    count = spool.number("SELECT (SELECT count(*) FROM swapped) + (SELECT count(*) FROM spread)")
    row.found_all("reordered", count, violations[:SHOWN_MAX])


def no_phantoms(spool: Spool, row: Invariant) -> None:
    """Invariant 2."""
    row.look_for("phantom", "altered")
    for statement in (_PHANTOMS, _ALTERED):
        spool.run(statement)
    row.counted["events"] = spool.number(
        "SELECT count(*) FROM events e JOIN cut ON cut.topic = e.topic AND cut.part = e.part "
        "AND e.off < cut.e0"
    )
    row.counted["dead letters"] = spool.number("SELECT count(*) FROM letters") + spool.number(
        "SELECT count(*) FROM unreadable ANTI JOIN letters USING (topic, part, off)"
    )
    count = spool.number("SELECT count(*) FROM phantoms")
    first = spool.first(
        "SELECT topic, part, off, subject, sequence, type, event_id FROM phantoms ORDER BY ALL"
    )
    row.found_all(
        "phantom",
        count,
        [
            Violation(
                kind="phantom",
                aggregate=f"{topic} {subject}",
                expected="nothing: no audit row",
                seen=f"version {sequence}, {event_type} {event_id}",
                place=f"{topic}/{part}@{off}",
            )
            for topic, part, off, subject, sequence, event_type, event_id in first
        ],
    )
    count = spool.number("SELECT count(*) FROM altered")
    first = spool.first("FROM altered ORDER BY ALL")
    row.found_all(
        "altered",
        count,
        [
            Violation(
                kind="altered",
                aggregate=f"{topic} {subject}",
                expected=f"version {sequence} as audited",
                seen=f"another {what}",
                place=f"{topic}/{part}@{off}",
            )
            for topic, part, off, subject, sequence, what in first
        ],
    )
