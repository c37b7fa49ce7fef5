"""Invariants 4 and 5: DynamoDB against the archive, and the archive against PostgreSQL's state.

An aggregate item is held against the archived events up to its own ``upto`` (protocol rule 20).
Below the checkpoint every event must be in; so those need no look at the item when they are added
up, and only the few at or above it are taken one by one.
"""

from typing import Final

from shopstream_stack.verify.report import Invariant, Violation
from shopstream_stack.verify.spool import Spool

#: Items live for 30 days from the event's time; within the last of them they may go.
RECENT_DAYS: Final = 29
TTL_SECONDS: Final = 30 * 24 * 3_600

_HOUR: Final = 3_600_000_000
_DAY: Final = 24 * _HOUR

# What each archived event adds to: its seller, all events, its product or those of its lines.
# ``moved``: money that changed hands, with its sign.
_PARTS: Final = (
    """
    CREATE VIEW counted AS
    SELECT *, CASE type WHEN 'order.refunded' THEN -amount ELSE amount END AS moved
    FROM events WHERE archived
    """,
    """
    CREATE VIEW parts AS
    SELECT 'seller' AS dimension, seller AS series, topic, part, off, type, time, currency,
           units, moved FROM counted
    UNION ALL
    SELECT 'all', 'event-types', topic, part, off, type, time, currency, units, moved FROM counted
    UNION ALL
    SELECT 'product', subject, topic, part, off, type, time, currency, units, moved FROM counted
    WHERE type NOT LIKE 'order.%'
    UNION ALL
    SELECT 'product', product, topic, part, off, type, time, currency, units, revenue
    FROM lines ANTI JOIN letters USING (topic, part, off) WHERE archived
    """,
)
_KEY: Final = """
    p.dimension || '#' || p.series || '#' || p.topic || '#' || p.part || '|{name}#'
        || strftime(make_timestamp(time - time % {length}), '%Y-%m-%dT%H:00:00Z')
"""
_KEYS: Final = {
    name: _KEY.format(name=name, length=length) for name, length in (("hour", _HOUR), ("day", _DAY))
}
# Added up by bucket; what is at or above the checkpoint keeps its offset. A key's md5 stands for
# it: a fifth of its bytes, which is what sorts and joins are made of.
_BUCKETS: Final = """
    CREATE TABLE buckets_{name} AS
    SELECT CAST(md5({key}) AS UUID) AS id, type, currency,
           count(*) AS events, sum(units) AS units, sum(moved) AS moved, max(off) AS last,
           off >= checkpoint AS late
    FROM parts p JOIN cut ON cut.topic = p.topic AND cut.part = p.part
    GROUP BY id, type, currency, late, CASE WHEN off >= checkpoint THEN off ELSE -1 END
"""
_EXPECTED: Final = (
    """
    CREATE TABLE due AS
    SELECT b.*, coalesce(i.upto, -1) AS upto
    FROM (FROM buckets_hour UNION ALL FROM buckets_day) AS b LEFT JOIN items i ON i.id = b.id
    WHERE NOT b.late OR b.last <= i.upto
    """,
    """
    CREATE TABLE expected AS
    SELECT id, 'byType#' || type AS name, sum(events) AS value FROM due GROUP BY id, type
    UNION ALL
    SELECT id, 'revenueMinor#' || currency, sum(moved) FROM due
    WHERE currency <> '' GROUP BY id, currency HAVING sum(moved) <> 0
    UNION ALL
    SELECT id, name, value FROM (
        SELECT id, sum(events) AS events,
               coalesce(sum(events) FILTER (type = 'order.created'), 0) AS orders,
               coalesce(sum(units) FILTER (type = 'order.created'), 0) AS units,
               coalesce(sum(events) FILTER (type = 'order.cancelled'), 0) AS cancelled,
               coalesce(sum(events) FILTER (type = 'product.low_stock'), 0) AS "lowStockWarnings",
               coalesce(sum(events) FILTER (type = 'product.out_of_stock'), 0) AS "outOfStock"
        FROM due GROUP BY id
    ) UNPIVOT (value FOR name IN (
        events, orders, units, cancelled, "lowStockWarnings", "outOfStock"
    )) WHERE value <> 0
    """,
    # A counter that is named and stands at 0 says the same as one that is not there.
    """
    CREATE TABLE off_by AS
    SELECT coalesce(e.id, c.id) AS id, coalesce(e.name, c.name) AS name,
           coalesce(e.value, 0) AS wanted, coalesce(c.value, 0) AS seen
    FROM expected e
    FULL JOIN (SELECT * FROM counters WHERE value <> 0) AS c ON c.id = e.id AND c.name = e.name
    WHERE coalesce(e.value, 0) <> coalesce(c.value, 0)
    """,
    # An item must have come as far as the last of its events below the checkpoint.
    """
    CREATE TABLE behind AS
    SELECT id, max(last) AS last, any_value(upto) AS upto FROM due
    GROUP BY id HAVING max(last) > any_value(upto)
    """,
)
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


def aggregates(spool: Spool, row: Invariant) -> None:
    """Invariant 4, the items' half: each against the archive folded to its own ``upto``."""
    row.look_for("differs", "behind")
    for statement in _PARTS:
        spool.run(statement)
    for name, key in _KEYS.items():
        spool.run(_BUCKETS.format(name=name, key=key))
    for statement in _EXPECTED:
        spool.run(statement)
    row.counted["items"] = spool.number("SELECT count(*) FROM items")
    row.counted["counters"] = spool.number("SELECT count(*) FROM counters")
    found = spool.first(
        "SELECT o.*, i.upto FROM off_by o LEFT JOIN items i USING (id) ORDER BY ALL"
    )
    row.found_all(
        "differs",
        spool.number("SELECT count(*) FROM off_by"),
        [
            Violation(
                kind="differs",
                aggregate=_key(spool, item),
                expected=f"{name} {wanted}",
                seen=str(seen),
                place="no such item" if upto is None else f"up to offset {upto}",
            )
            for item, name, wanted, seen, upto in found
        ],
    )
    row.found_all(
        "behind",
        spool.number("SELECT count(*) FROM behind"),
        [
            Violation(
                kind="behind",
                aggregate=_key(spool, item),
                expected=f"all events up to offset {last}",
                seen=f"upto {upto}",
            )
            for item, last, upto in spool.first("FROM behind ORDER BY ALL")
        ],
    )


def _key(spool: Spool, item: object) -> str:
    """The item's key in words; one that is not there is made from an event that it should hold."""
    found = spool.rows("SELECT key FROM items WHERE id = ?", [item])
    for key in _KEYS.values():
        found = found or spool.rows(
            f"SELECT {key} AS key FROM parts p WHERE CAST(md5(key) AS UUID) = ? LIMIT 1",  # noqa: S608 - see above
            [item],
        )
    return str(found[0][0]) if found else str(item)


def sums(spool: Spool, row: Invariant) -> None:
    """Invariant 4, the database's half: its state against the fold over the same versions."""
    row.look_for("unequal sum")
    for statement in _SUMS:
        spool.run(statement)
    row.counted["sums"] = spool.number("SELECT count(*) FROM sums")
    row.found_all(
        "unequal sum",
        spool.number("SELECT count(*) FROM unequal"),
        [
            Violation(
                kind="unequal sum",
                aggregate=f"seller {seller}",
                expected=f"{name} {wanted} by PostgreSQL",
                seen=f"{seen} by the events",
            )
            for seller, name, wanted, seen in spool.first("FROM unequal ORDER BY ALL")
        ],
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
    _missing_and_unknown(spool, row)
    row.found_all(
        "altered",
        spool.number("SELECT count(*) FROM changed"),
        [
            Violation(
                kind="altered",
                aggregate=f"item {event_id}",
                expected="what the event says",
                seen=f"another {what}",
                place=f"{topic}/{part}@{off}",
            )
            for topic, part, off, event_id, what in spool.first("FROM changed ORDER BY ALL")
        ],
    )


def _missing_and_unknown(spool: Spool, row: Invariant) -> None:
    row.found_all(
        "missing",
        spool.number("SELECT count(*) FROM unlisted"),
        [
            Violation(
                kind="missing",
                aggregate=f"{topic} {subject}",
                expected=f"version {sequence} as item {event_id}",
                seen="no such item",
                place=f"{topic}/{part}@{off}",
            )
            for topic, part, off, subject, sequence, event_id in spool.first(
                "SELECT topic, part, off, subject, sequence, event_id FROM unlisted ORDER BY ALL"
            )
        ],
    )
    row.found_all(
        "phantom",
        spool.number("SELECT count(*) FROM unknown"),
        [
            Violation(
                kind="phantom",
                aggregate=f"item {event_id}",
                expected="nothing: no such event on the log",
                seen=f"{event_type} of {subject}",
            )
            for event_id, event_type, subject in spool.first(
                "SELECT event_id, type, subject FROM unknown ORDER BY ALL"
            )
        ],
    )
