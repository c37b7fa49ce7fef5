"""Invariant 7: what clients wrote down against what the log holds.

A client's events are looked for between its first and its last, partition by partition, because
only there an order exists that nobody can dispute; after a gap that it was told of, anew.
"""

from typing import Final

from shopstream_stack.verify.report import Invariant, Words
from shopstream_stack.verify.spool import Spool

_TABLES: Final = (
    # Where on the log what a client received stands; -1 where it does not.
    """
    CREATE TABLE heard AS
    SELECT r.*, coalesce(e.part, -1) AS part, coalesce(e.off, -1) AS off
    FROM received r LEFT JOIN (
        SELECT event_id, topic, subject, sequence, min(part) AS part, min(off) AS off
        FROM events SEMI JOIN received USING (event_id) GROUP BY event_id, topic, subject, sequence
    ) AS e USING (event_id, topic, subject, sequence)
    """,
    """
    CREATE TABLE heard_twice AS
    SELECT client, topic, subject, sequence, count(*) - 1 AS more, list(line ORDER BY line) AS at
    FROM heard GROUP BY client, topic, subject, sequence HAVING count(*) > 1
    """,
    """
    CREATE TABLE heard_late AS
    SELECT h.* FROM (
        SELECT *, lag(sequence) OVER of_subject AS before, lag(line) OVER of_subject AS before_line
        FROM heard
        WINDOW of_subject AS (PARTITION BY client, topic, subject ORDER BY line)
    ) AS h
    WHERE h.sequence < h.before AND NOT EXISTS (
        SELECT 1 FROM heard_twice t WHERE t.client = h.client AND t.topic = h.topic
            AND t.subject = h.subject AND t.sequence = h.sequence AND t.at[1] < h.line
    )
    """,
    """
    CREATE TABLE spans AS
    SELECT client, span, topic, part, min(off) AS first, max(off) AS last
    FROM heard WHERE off >= 0 GROUP BY client, span, topic, part
    """,
    # Patterns are exact types, a beginning and a star, or the star alone.
    """
    CREATE TABLE wanted_types AS
    SELECT DISTINCT c.client, t.type
    FROM (SELECT client, unnest(string_split(types, ',')) AS pattern FROM clients) AS c
    JOIN (SELECT DISTINCT type FROM events) AS t
      ON c.pattern = '' OR c.pattern = t.type
      OR (suffix(c.pattern, '*') AND starts_with(t.type, rtrim(c.pattern, '*')))
    """,
    """
    CREATE TABLE unheard AS
    SELECT s.client, e.topic, e.part, e.off, e.subject, e.sequence, e.type, s.first, s.last
    FROM spans s JOIN clients c ON c.client = s.client
    JOIN events e ON e.topic = s.topic AND e.part = s.part AND e.off BETWEEN s.first AND s.last
    JOIN wanted_types w ON w.client = s.client AND w.type = e.type
    ANTI JOIN heard h ON h.client = s.client AND h.topic = e.topic AND h.subject = e.subject
        AND h.sequence = e.sequence
    WHERE (c.seller = '' OR c.seller = e.seller) AND (c.subject = '' OR c.subject = e.subject)
    """,
    # What it did not ask for is as wrong as what was never published.
    """
    CREATE TABLE unasked AS
    SELECT h.client, h.line, h.event_id, h.topic, h.subject, h.sequence, e.type, e.seller
    FROM heard h JOIN events e ON e.topic = h.topic AND e.part = h.part AND e.off = h.off
    JOIN clients c ON c.client = h.client
    WHERE (c.seller <> '' AND c.seller <> e.seller) OR (c.subject <> '' AND c.subject <> e.subject)
       OR NOT EXISTS (SELECT 1 FROM wanted_types w WHERE w.client = h.client AND w.type = e.type)
    """,
)


def received(spool: Spool, row: Invariant) -> None:
    """Invariant 7."""
    row.look_for("missing", "duplicate", "reordered", "phantom", "unasked")
    for statement in _TABLES:
        spool.run(statement)
    spool.spell_out(
        row,
        "missing",
        "FROM unheard",
        lambda client, topic, part, off, subject, sequence, event_type, first, last: Words(
            f"{topic} {subject}",
            f"version {sequence}, {event_type}, at client {client}",
            f"not received, though offsets {first} and {last} were",
            f"{topic}/{part}@{off}",
        ),
    )
    spool.spell_out(
        row,
        "duplicate",
        "FROM heard_twice",
        lambda client, topic, subject, sequence, more, lines: Words(
            f"{topic} {subject}",
            f"version {sequence} once at client {client}",
            f"{more + 1} times",
            f"lines {', '.join(map(str, lines))}",
        ),
        count="sum(more)",
    )
    spool.spell_out(
        row,
        "reordered",
        "SELECT client, line, topic, subject, sequence, part, off, before, before_line "
        "FROM heard_late",
        lambda client, line, topic, subject, sequence, part, off, before, before_line: Words(
            f"{topic} {subject}",
            f"version {sequence} before version {before} at client {client}",
            f"version {before} on line {before_line}",
            f"line {line}, {topic}/{part}@{off}",
        ),
    )
    _strange(spool, row)


def _strange(spool: Spool, row: Invariant) -> None:
    spool.spell_out(
        row,
        "phantom",
        "SELECT client, line, event_id, topic, subject, sequence FROM heard WHERE off < 0",
        lambda client, line, event_id, topic, subject, sequence: Words(
            f"{topic} {subject}",
            "nothing: not on the log",
            f"version {sequence} as {event_id} at client {client}",
            f"line {line}",
        ),
    )
    spool.spell_out(
        row,
        "unasked",
        "FROM unasked",
        lambda client, line, _, topic, subject, sequence, event_type, seller: Words(
            f"{topic} {subject}",
            f"only what client {client} asked for",
            f"version {sequence}, {event_type} of {seller}",
            f"line {line}",
        ),
    )
