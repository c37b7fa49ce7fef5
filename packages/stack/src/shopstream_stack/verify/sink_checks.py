"""Invariants 4 and 5: events against the sums of PostgreSQL's state, and against RecentEvents."""

from typing import Final

from shopstream_stack.verify.report import Invariant, Words
from shopstream_stack.verify.spool import Spool

#: Items live for 30 days from the event's time; within the last of them they may go.
RECENT_DAYS: Final = 29
TTL_SECONDS: Final = 30 * 24 * 3_600

_DAY: Final = 24 * 3_600_000_000

# PostgreSQL's sums are of its state: an order's present totals, not its events.
_SUMS: Final = (
    """
    CREATE VIEW settled AS
    SELECT below.* FROM below SEMI JOIN audit USING (topic, subject, sequence)
    """,
    """
    CREATE VIEW folded AS
    SELECT seller, 'orders' AS name, 1 AS value FROM settled WHERE type = 'order.created'
    UNION ALL SELECT seller, 'units', units FROM settled WHERE type = 'order.created'
    UNION ALL SELECT seller, 'cancelled', 1 FROM settled WHERE type = 'order.cancelled'
    UNION ALL SELECT seller, 'products', 1 FROM settled WHERE type = 'product.created'
    UNION ALL SELECT seller, 'deleted', 1 FROM settled WHERE type = 'product.deleted'
    UNION ALL SELECT seller, 'revenueMinor#' || currency,
                     CASE type WHEN 'order.refunded' THEN -amount ELSE amount END
              FROM settled WHERE currency <> ''
    """,
    """
    CREATE TABLE unequal AS
    SELECT coalesce(f.seller, s.seller) AS seller, coalesce(f.name, s.name) AS name,
           coalesce(s.value, 0) AS wanted, coalesce(f.value, 0) AS seen
    FROM (SELECT seller, name, sum(value) AS value FROM folded GROUP BY seller, name) AS f
    FULL JOIN sums s ON s.seller = f.seller AND s.name = f.name
    WHERE coalesce(s.value, 0) <> coalesce(f.value, 0)
    """,
)


def sums(spool: Spool, row: Invariant) -> None:
    """Invariant 4, the database's half: its state against the fold over the same versions."""
    row.look_for("unequal sum")
    for statement in _SUMS:
        spool.run(statement)
    row.counted["sums"] = spool.number("SELECT count(*) FROM sums")
    spool.spell_out(
        row,
        "unequal sum",
        "FROM unequal",
        lambda seller, name, wanted, seen: Words(
            f"seller {seller}", f"{name} {wanted} by PostgreSQL", f"{seen} by the events"
        ),
    )


def recent_events(spool: Spool, row: Invariant, now: int) -> None:
    """Invariant 5; ``now`` in microseconds since 1970, when the items were read."""
    row.look_for("missing", "phantom", "altered")
    since = now - RECENT_DAYS * _DAY
    spool.run(
        "CREATE TABLE unlisted AS SELECT b.* FROM below b "
        "JOIN cut ON cut.topic = b.topic AND cut.part = b.part AND b.off < cut.recent "
        "ANTI JOIN recent r ON r.event_id = b.event_id WHERE b.time >= CAST(? AS BIGINT)",
        [since],
    )
    spool.run("CREATE TABLE unknown AS SELECT * FROM recent ANTI JOIN events USING (event_id)")
    spool.run(
        f"""
        CREATE TABLE changed AS
        SELECT e.topic, e.part, e.off, e.event_id,
               concat_ws(', ', CASE WHEN e.digest <> r.digest THEN 'data' END,
                   CASE WHEN e.type <> r.type THEN 'eventType' END,
                   CASE WHEN e.seller <> r.seller THEN 'sellerId' END,
                   CASE WHEN e.subject <> r.subject THEN 'subject' END,
                   CASE WHEN r.ttl <> e.time // 1000000 + {TTL_SECONDS} THEN 'ttl' END,
                   CASE WHEN r.timestamp
                             <> strftime(make_timestamp(e.time), '%Y-%m-%dT%H:%M:%S.%fZ')
                        THEN 'timestamp' END) AS what
        FROM recent r JOIN events e USING (event_id) WHERE what <> ''
        """  # noqa: S608 - a number of ours
    )
    row.counted["items"] = spool.number("SELECT count(*) FROM recent")
    spool.spell_out(
        row,
        "missing",
        "SELECT topic, part, off, subject, sequence, event_id FROM unlisted",
        lambda topic, part, off, subject, sequence, event_id: Words(
            f"{topic} {subject}",
            f"version {sequence} as item {event_id}",
            "no such item",
            f"{topic}/{part}@{off}",
        ),
    )
    spool.spell_out(
        row,
        "phantom",
        "SELECT event_id, type, subject FROM unknown",
        lambda event_id, event_type, subject: Words(
            f"item {event_id}",
            "nothing: no such event on the log",
            f"{event_type} of {subject}",
        ),
    )
    spool.spell_out(
        row,
        "altered",
        "FROM changed",
        lambda topic, part, off, event_id, what: Words(
            f"item {event_id}", "what the event says", f"another {what}", f"{topic}/{part}@{off}"
        ),
    )
