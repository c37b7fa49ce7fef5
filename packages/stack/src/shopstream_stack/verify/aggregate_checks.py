"""Invariant 4's half in DynamoDB: each aggregate item against the archive alone.

An item is held against the archived events up to its own ``upto`` (protocol rule 20). Below the
checkpoint every event must be in; so those need no look at the item when they are added up, and
only the few at or above it are taken one by one.

Added up once, by hour and seller or product; the hours of all sellers together and the days are
sums of those. All of it in whole minor units: DuckDB's sums of integers are exact.
"""

from collections.abc import Iterable
from typing import Final

from shopstream_stack.verify.report import Invariant, Words
from shopstream_stack.verify.spool import Spool
from shopstream_stack.verify.tables import PLAIN

_HOUR: Final = 3_600_000_000
_DAY: Final = 24 * _HOUR

_KEY: Final = """
    dimension || '#' || series || '#' || topic || '#' || part || '|' || bucket || '#'
        || strftime(make_timestamp(begun), '%Y-%m-%dT%H:00:00Z')
        || CASE WHEN dimension = 'sellerProduct' THEN '#' || member ELSE '' END
"""
# A key's md5 stands for it: a fifth of its bytes, which is what sorts and joins are made of.
_ID: Final = f"CAST(md5({_KEY}) AS UUID)"
# What is added up of the parts of an item. Sums of sums, so that they stay whole numbers.
_AMOUNTS: Final = ("events", "units", "moved", "refunded", "tardy", "ahead")
_SUMS: Final = ", ".join(f"CAST(sum({name}) AS HUGEINT) AS {name}" for name in _AMOUNTS)
_DUE: Final = f"{_ID} AS id, dimension, type, currency, {', '.join(_AMOUNTS)}, off"
# The first four bits of the product's md5 say where its sales are kept.
_SHARD: Final = "((strpos('0123456789abcdef', md5(product)[1]) - 1) % 8)"
# What is at or above the checkpoint is late: it keeps its offset.
_APART: Final = "late, CASE WHEN late THEN off ELSE -1 END"
_CELLS: Final = (
    # What each archived event adds to: its seller, and its product or those of its lines.
    # ``moved``: money that changed hands, with its sign.
    """
    CREATE VIEW counted AS
    SELECT *, CASE type WHEN 'order.refunded' THEN -amount ELSE amount END AS moved
    FROM events WHERE archived
    """,
    """
    CREATE VIEW sold AS
    SELECT lines.* FROM lines ANTI JOIN letters USING (topic, part, off) WHERE archived
    """,
    f"""
    CREATE VIEW parts AS
    SELECT 'seller' AS dimension, seller AS series, '' AS member, topic, part, off, type, time,
           currency, 1 AS events, units, moved, CAST(refunded AS BIGINT) AS refunded,
           CAST(tardy AS BIGINT) AS tardy, 0 AS ahead
    FROM counted
    UNION ALL
    SELECT 'product', subject, '', topic, part, off, type, time, currency, 1, units, moved, 0, 0, 0
    FROM counted WHERE type NOT LIKE 'order.%'
    UNION ALL
    SELECT 'product', product, '', topic, part, off, type, time, currency, 1, units, revenue,
           0, 0, 0
    FROM sold
    UNION ALL
    SELECT 'sellerProduct', seller || '#' || {_SHARD}, product, topic, part, off, type, time,
           currency, 1, units, revenue, 0, 0, 0
    FROM sold WHERE type IN ('order.created', 'order.paid', 'order.refunded')
    UNION ALL
    SELECT 'all', 'event-types', '', topic, part, off, '', time, '', 0, 0, 0, 0, 0, 1
    FROM ahead ANTI JOIN letters USING (topic, part, off)
    """,  # noqa: S608 - our own constants
    f"""
    CREATE TABLE cells AS
    SELECT dimension, series, member, topic, part, 'hour' AS bucket, time - time % {_HOUR} AS begun,
           type, currency, late, {_SUMS}, max(off) AS off
    FROM (SELECT parts.*, off >= checkpoint AS late FROM parts JOIN cut USING (topic, part))
    GROUP BY dimension, series, member, topic, part, begun, type, currency, {_APART}
    """,  # noqa: S608 - as above
    f"""
    INSERT INTO cells
    SELECT 'all', 'event-types', '', topic, part, bucket, begun, type, currency, late, {_SUMS},
           max(off)
    FROM cells WHERE dimension = 'seller'
    GROUP BY topic, part, bucket, begun, type, currency, {_APART}
    """,  # noqa: S608 - as above
    f"""
    INSERT INTO cells
    SELECT dimension, series, member, topic, part, 'day', begun - begun % {_DAY} AS day, type,
           currency, late, {_SUMS}, max(off)
    FROM cells WHERE dimension <> 'product'
    GROUP BY dimension, series, member, topic, part, day, type, currency, {_APART}
    """,  # noqa: S608 - as above
    # A product is kept by hour only, a seller's products by day only.
    "DELETE FROM cells WHERE dimension = 'sellerProduct' AND bucket = 'hour'",
    f"""
    CREATE TABLE due AS
    SELECT {_DUE} FROM cells WHERE NOT late
    UNION ALL
    SELECT l.* FROM (SELECT {_DUE} FROM cells WHERE late) AS l
    JOIN items i ON i.id = l.id AND l.off <= i.upto
    """,  # noqa: S608 - as above
)
# What `PLAIN` counts, as the events give it.
_PLAIN: Final = {
    "events": "sum(events) FILTER (dimension <> 'sellerProduct')",
    "orders": "sum(events) FILTER (type = 'order.created')",
    "units": "sum(units) FILTER (type = 'order.created')",
    "cancelled": "sum(events) FILTER (type = 'order.cancelled')",
    "lowStockWarnings": "sum(events) FILTER (type = 'product.low_stock')",
    "outOfStock": "sum(events) FILTER (type = 'product.out_of_stock')",
}
_SIDE_BY_SIDE: Final = ", ".join(
    f'coalesce(e."{name}", 0) AS "{name}", coalesce(i."{name}", 0) AS "{name} seen"'
    for name in PLAIN
)
_OFF_BY: Final = (
    # The items that are not what they should be: the six counters that every kind of item may have
    # stand side by side. An item must have come as far as the last event below the checkpoint.
    f"""
    SELECT coalesce(e.id, i.id) AS id, coalesce(i.upto, -1) AS upto, e.last,
           {_SIDE_BY_SIDE}
    FROM (
        SELECT id, max(off) AS last,
               {", ".join(f'coalesce({_PLAIN[name]}, 0) AS "{name}"' for name in PLAIN)}
        FROM due WHERE hash(id) % {{slices}} = {{slice}} GROUP BY id
    ) AS e
    FULL JOIN (SELECT * FROM items WHERE hash(id) % {{slices}} = {{slice}}) AS i ON i.id = e.id
    WHERE e.last > coalesce(i.upto, -1)
       OR {" OR ".join(f'coalesce(e."{n}", 0) <> coalesce(i."{n}", 0)' for n in PLAIN)}
    """,  # noqa: S608 - as above
    # The counters by name that the events add up to. The parts are read anew for each name: kept
    # aside they would be more than the memory that a check may take.
    """
    WITH mine AS NOT MATERIALIZED (SELECT * FROM due WHERE hash(id) % {slices} = {slice}),
         whole AS NOT MATERIALIZED (SELECT * FROM mine WHERE dimension IN ('seller', 'all'))
    SELECT id, 'byType#' || type AS name, sum(events) AS value FROM mine
    WHERE dimension <> 'sellerProduct' AND events > 0 GROUP BY id, type
    UNION ALL SELECT id, 'revenueMinor#' || currency, sum(moved) FROM mine
    WHERE currency <> '' GROUP BY id, currency
    UNION ALL SELECT id, 'paidOrders#' || currency, sum(events) FROM whole
    WHERE type = 'order.paid' GROUP BY id, currency
    UNION ALL SELECT id, 'refundedMinor#' || currency, -sum(moved) FROM whole
    WHERE type = 'order.refunded' GROUP BY id, currency
    UNION ALL SELECT id, 'refundedInFull', sum(refunded) FROM whole WHERE refunded > 0 GROUP BY id
    UNION ALL SELECT id, 'lateEvents', sum(tardy) FROM whole WHERE tardy > 0 GROUP BY id
    UNION ALL SELECT id, 'aheadEvents', sum(ahead) FROM whole WHERE ahead > 0 GROUP BY id
    """,
    # A counter that is named and stands at 0 says the same as one that is not there.
    """
    SELECT coalesce(e.id, c.id) AS id, coalesce(e.name, c.name) AS name,
           coalesce(e.value, 0) AS wanted, coalesce(c.value, 0) AS seen
    FROM (SELECT * FROM wanted WHERE hash(id) % {slices} = {slice}) AS e
    FULL JOIN (SELECT * FROM counters WHERE hash(id) % {slices} = {slice}) AS c
        ON c.id = e.id AND c.name = e.name
    WHERE coalesce(e.value, 0) <> coalesce(c.value, 0)
    """,
    *(
        f"""
        INSERT INTO off_by SELECT id, '{name}', "{name}", "{name} seen" FROM unlike
        WHERE "{name}" <> "{name} seen"
        """  # noqa: S608 - as above
        for name in PLAIN
    ),
)


def aggregates(spool: Spool, row: Invariant) -> None:
    """Invariant 4, the items' half: each against the archive folded to its own ``upto``."""
    row.look_for("differs", "behind")
    for statement in _CELLS:
        spool.run(statement)
    unlike, wanted, off_by, *plain_ones = _OFF_BY
    spool.fill("unlike", unlike, of="due")
    spool.fill("wanted", wanted, of="due")
    spool.fill("off_by", off_by, of="wanted")
    for statement in plain_ones:
        spool.run(statement)
    row.counted["items"] = spool.number("SELECT count(*) FROM items")
    plain = " + ".join(f'CAST("{name}" <> 0 AS BIGINT)' for name in PLAIN)
    row.counted["counters"] = spool.number("SELECT count(*) FROM counters") + spool.number(
        f"SELECT coalesce(sum({plain}), 0) FROM items"  # noqa: S608 - as above
    )
    differing = "SELECT o.*, i.upto FROM off_by o LEFT JOIN items i USING (id)"
    behind = "SELECT id, last, upto FROM unlike WHERE last > upto"
    shown = [
        item for query in (differing, behind) for item, *_ in spool.first(f"{query} ORDER BY ALL")
    ]
    keys = _keys(spool, shown)
    spool.spell_out(
        row,
        "differs",
        differing,
        lambda item, name, wanted, seen, upto: Words(
            keys[item],
            f"{name} {wanted}",
            str(seen),
            "no such item" if upto is None else f"up to offset {upto}",
        ),
    )
    spool.spell_out(
        row,
        "behind",
        behind,
        lambda item, last, upto: Words(
            keys[item], f"all events up to offset {last}", f"upto {upto}"
        ),
    )


def _keys(spool: Spool, items: Iterable[object]) -> dict[object, str]:
    """The items' keys in words, by id; one that is not there has it from its events."""
    wanted = [str(item) for item in items]
    if not wanted:
        return {}
    return dict(
        spool.rows(
            f"""
            SELECT id, key FROM (
                SELECT id, key FROM items UNION ALL SELECT {_ID}, {_KEY} FROM cells
            ) SEMI JOIN (SELECT CAST(unnest(CAST(? AS VARCHAR[])) AS UUID) AS id) USING (id)
            """,  # noqa: S608 - as above
            [wanted],
        )
    )
