"""What must hold in the API's database at any moment, whatever was done to it.

Each rule is one query that finds what breaks it; all run in one snapshot, so writers may go on.
The rules know the contract and the tables, nothing of the code that writes them. `check` runs after
every test that had an API (`tests.support.app`, `tests.support.api`, the fixture `system`).
"""

from typing import Any, Final

import psycopg

CONNECT_SECONDS_MAX: Final = 3
#: More of one kind say nothing new.
SHOWN_MAX: Final = 5

_LEDGER: Final = {
    "stock is the initial stock and the ledger": """
        SELECT p.id, p.initial_stock, p.stock, coalesce(sum(m.delta), 0) AS ledger
        FROM products p LEFT JOIN stock_movements m ON m.product_id = p.id
        GROUP BY p.id HAVING p.stock <> p.initial_stock + coalesce(sum(m.delta), 0)""",
    "stock is never below zero": "SELECT id, stock FROM products WHERE stock < 0",
    "each ledger row shows the stock after it": """
        SELECT * FROM (
            SELECT m.product_id, m.inventory_version, m.stock, p.initial_stock + sum(m.delta)
                   OVER (PARTITION BY m.product_id ORDER BY m.inventory_version) AS running
            FROM stock_movements m JOIN products p ON p.id = m.product_id
        ) AS summed WHERE stock <> running""",
    "each ledger row is of a product": """
        SELECT m.product_id, m.inventory_version FROM stock_movements m
        WHERE NOT EXISTS (SELECT FROM products p WHERE p.id = m.product_id)""",
    "ledger rows and inventory events are one to one": """
        SELECT coalesce(m.product_id, e.subject), m.inventory_version, m.cause, e.sequence, e.type
        FROM stock_movements m
        FULL JOIN (
            SELECT * FROM event_audit WHERE topic = 'shop.inventory' AND type LIKE 'inventory.%'
        ) AS e ON e.subject = m.product_id AND e.sequence = m.inventory_version
        WHERE (m.cause, m.seller_id, m.created_at) IS DISTINCT FROM (e.type, e.seller_id, e.time)
    """,
    "reserved is the sum of the active reservations": """
        SELECT p.id, p.reserved, coalesce(sum(r.quantity), 0) AS held
        FROM products p LEFT JOIN reservations r ON r.product_id = p.id AND r.status = 'active'
        GROUP BY p.id HAVING p.reserved <> coalesce(sum(r.quantity), 0)""",
    "each reservation is of a product": """
        SELECT r.id, r.product_id FROM reservations r
        WHERE NOT EXISTS (SELECT FROM products p WHERE p.id = r.product_id)""",
    "the low-stock table is the products with few units": """
        SELECT coalesce(p.id, l.product_id) AS id, p.stock, l.stock AS listed
        FROM (SELECT * FROM products WHERE stock <= 100 AND deleted_at IS NULL) AS p
        FULL JOIN low_stock l ON l.product_id = p.id
        WHERE (p.seller_id, p.stock, p.created_at)
            IS DISTINCT FROM (l.seller_id, l.stock, l.created_at)""",
}

_SEARCH: Final = {
    "each word of a product is known to the search": """
        SELECT p.id, w.word
        FROM products p, unnest(tsvector_to_array(p.search)) AS l (lexeme),
             search_word(l.lexeme) AS w (word)
        WHERE w.word IS NOT NULL AND NOT EXISTS (SELECT FROM search_words s WHERE s.word = w.word)
    """,
}

#: One row a thing with versions: where its events are, its last version, its last change.
_VERSIONED: Final = """
    SELECT 'shop.products' AS topic, id, seller_id, version, created_at, updated_at FROM products
    UNION ALL
    SELECT 'shop.inventory', id, seller_id, inventory_version, created_at, updated_at FROM products
    UNION ALL
    SELECT 'shop.orders', id, seller_id, version, created_at, updated_at FROM orders
"""

_EVENTS: Final = {
    "each version has its one event": f"""
        SELECT v.topic, v.id, v.version, count(e.sequence) AS events, min(e.sequence),
               max(e.sequence)
        FROM ({_VERSIONED}) AS v
        LEFT JOIN event_audit e ON e.topic = v.topic AND e.subject = v.id
        GROUP BY v.topic, v.id, v.version
        HAVING count(e.sequence) <> v.version
            OR v.version > 0 AND (min(e.sequence), max(e.sequence)) <> (1, v.version)""",
    "each event is of a thing that is there": f"""
        SELECT e.topic, e.subject, e.sequence, e.type FROM event_audit e
        WHERE NOT EXISTS (
            SELECT FROM ({_VERSIONED}) AS v
            WHERE (v.topic, v.id, v.seller_id) = (e.topic, e.subject, e.seller_id)
        )""",
    "each event is on its topic": """
        SELECT topic, subject, sequence, type FROM event_audit WHERE topic <> CASE
            WHEN type IN ('product.low_stock', 'product.out_of_stock') THEN 'shop.inventory'
            WHEN type LIKE 'product.%' THEN 'shop.products'
            WHEN type LIKE 'inventory.%' THEN 'shop.inventory'
            ELSE 'shop.orders' END""",
    "an event has an id of its own": """
        SELECT event_id, count(*) FROM event_audit GROUP BY event_id HAVING count(*) > 1""",
    "a thing begins and ends once": """
        SELECT topic, subject, sequence, type FROM (
            SELECT *, max(sequence) OVER (PARTITION BY topic, subject) AS latest FROM event_audit
        ) AS e
        WHERE (sequence = 1) <> (type IN ('product.created', 'order.created'))
                  AND topic <> 'shop.inventory'
           OR type = 'product.deleted' AND sequence <> latest""",
    "a product with a last event is deleted": """
        SELECT p.id, p.version, p.deleted_at FROM products p LEFT JOIN event_audit e
            ON e.topic = 'shop.products' AND e.subject = p.id AND e.type = 'product.deleted'
        WHERE p.deleted_at IS DISTINCT FROM e.time""",
    "a warning follows its cause": """
        SELECT w.subject, w.sequence, w.type, c.type FROM event_audit w
        LEFT JOIN event_audit c ON (c.topic, c.subject, c.sequence)
            = (w.topic, w.subject, w.sequence - 1)
        WHERE w.type IN ('product.low_stock', 'product.out_of_stock')
          AND (c.type IS NULL OR c.type NOT LIKE 'inventory.%' OR c.time <> w.time)""",
    "time never goes back in a thing's history": """
        SELECT * FROM (
            SELECT topic, subject, sequence, time,
                   lag(time) OVER (PARTITION BY topic, subject ORDER BY sequence) AS earlier
            FROM event_audit
        ) AS e WHERE time < earlier""",
    "a thing's last change is its last event's": """
        SELECT v.id, v.updated_at, max(e.time) FROM (
            SELECT id, updated_at FROM products UNION ALL SELECT id, updated_at FROM orders
        ) AS v JOIN event_audit e ON e.subject = v.id
        GROUP BY v.id, v.updated_at HAVING max(e.time) <> v.updated_at""",
}

_OUTBOX: Final = {
    "an outbox row is the event that was audited": """
        SELECT o.seq, o.topic, o.aggregateid, o.type FROM (
            SELECT seq, id, topic, aggregateid, type, payload, time_ms FROM outbox
            UNION ALL
            SELECT seq, id, topic, aggregateid, type, payload, time_ms FROM outbox_poison
        ) AS o
        WHERE NOT EXISTS (
            SELECT FROM event_audit e
            WHERE (e.event_id, e.topic, e.subject::text, e.type, e.sha256)
                = (o.id, o.topic, o.aggregateid, o.type, sha256(o.payload))
              AND floor(extract(epoch FROM e.time) * 1000) = o.time_ms
        )""",
    "outbox rows have the order of their sequences": """
        SELECT * FROM (
            SELECT o.topic, o.aggregateid, o.seq, e.sequence, lag(e.sequence)
                   OVER (PARTITION BY o.topic, o.aggregateid ORDER BY o.seq) AS earlier
            FROM outbox o JOIN event_audit e ON e.event_id = o.id
        ) AS o WHERE sequence <= earlier""",
    "an outbox row knows how many its transaction wrote": """
        SELECT txid, min(txrows), max(txrows), count(*) FROM outbox GROUP BY txid
        HAVING min(txrows) <> count(*) OR max(txrows) <> count(*)""",
}

_ORDERS: Final = {
    "an order's amounts are the sums of its lines": """
        SELECT o.id, o.subtotal_minor, o.total_minor, l.lines, l.amount
        FROM orders o LEFT JOIN LATERAL (
            SELECT count(*) AS lines, sum(i.quantity * i.unit_price_minor) AS amount,
                   bool_and(i.total_minor = i.quantity * i.unit_price_minor) AS exact
            FROM order_items i WHERE i.order_id = o.id
        ) AS l ON true
        WHERE l.lines = 0 OR NOT l.exact OR o.subtotal_minor <> l.amount
           OR o.total_minor <> o.subtotal_minor + o.tax_minor + o.shipping_minor""",
    "each line is of an order and of a product of its seller": """
        SELECT i.order_id, i.line FROM order_items i
        LEFT JOIN orders o ON o.id = i.order_id
        LEFT JOIN products p ON p.id = i.product_id
        WHERE o.seller_id IS DISTINCT FROM p.seller_id OR o.id IS NULL""",
    "refunds of the events add up": """
        SELECT o.id, o.status, o.total_minor, o.refunded_minor, coalesce(sum(e.amount_minor), 0)
        FROM orders o LEFT JOIN event_audit e
            ON e.topic = 'shop.orders' AND e.subject = o.id AND e.type = 'order.refunded'
        GROUP BY o.id, o.status, o.total_minor, o.refunded_minor
        HAVING o.refunded_minor <> coalesce(sum(e.amount_minor), 0)
            OR o.refunded_minor NOT BETWEEN 0 AND o.total_minor""",
    "the history tells each refund as its event does": """
        SELECT h.order_id, h.version, h.refund_minor, e.type, e.amount_minor FROM order_history h
        LEFT JOIN event_audit e
            ON (e.topic, e.subject, e.sequence) = ('shop.orders', h.order_id, h.version)
        WHERE h.refund_minor IS DISTINCT FROM
            CASE WHEN e.type = 'order.refunded' THEN e.amount_minor END""",
    "amounts stand on payments and refunds only": """
        SELECT e.subject, e.sequence, e.type, e.amount_minor, e.currency
        FROM event_audit e LEFT JOIN orders o ON o.id = e.subject
        WHERE (e.amount_minor, e.currency) IS DISTINCT FROM CASE e.type
            WHEN 'order.paid' THEN (o.total_minor, o.currency)
            WHEN 'order.refunded' THEN (e.amount_minor, o.currency)
            ELSE (NULL::bigint, NULL::text) END
           OR e.type = 'order.refunded' AND e.amount_minor IS NULL""",
    "an order is refunded when all of it is": """
        SELECT id, status, total_minor, refunded_minor FROM orders
        WHERE status = 'refunded' AND refunded_minor <> total_minor
           OR status NOT IN ('paid', 'shipped', 'delivered', 'refunded') AND refunded_minor <> 0
           OR status <> 'refunded' AND refunded_minor = total_minor AND total_minor <> 0""",
    "an order's history is its versions": """
        SELECT o.id, o.version, o.status, count(h.version), max(h.version)
        FROM orders o LEFT JOIN order_history h ON h.order_id = o.id
        GROUP BY o.id, o.version, o.status, o.updated_at
        HAVING count(h.version) <> o.version OR max(h.version) <> o.version
            OR (array_agg(h.status ORDER BY h.version DESC))[1] <> o.status
            OR max(h.at) <> o.updated_at""",
    "each step of the history is one of the table": """
        SELECT * FROM (
            SELECT order_id, version, status,
                   lag(status, 1, 'none') OVER (PARTITION BY order_id ORDER BY version) AS earlier
            FROM order_history
        ) AS h
        WHERE (earlier, status) NOT IN (
            ('none', 'pending'), ('pending', 'confirmed'), ('pending', 'cancelled'),
            ('confirmed', 'paid'), ('confirmed', 'cancelled'), ('paid', 'shipped'),
            ('shipped', 'delivered'), ('paid', 'refunded'), ('shipped', 'refunded'),
            ('delivered', 'refunded'),
            -- A partial refund leaves the status.
            ('paid', 'paid'), ('shipped', 'shipped'), ('delivered', 'delivered'))""",
    "each step of the history has its event": """
        SELECT h.order_id, h.version, h.status, e.type FROM order_history h
        LEFT JOIN event_audit e
            ON (e.topic, e.subject, e.sequence) = ('shop.orders', h.order_id, h.version)
        WHERE e.time IS DISTINCT FROM h.at OR e.type NOT IN (
            'order.refunded', 'order.' || CASE h.status WHEN 'pending' THEN 'created'
                                                        ELSE h.status END)""",
    "an order has taken its units, or given them back": """
        SELECT i.order_id, i.product_id, o.status, i.units, m.delta
        FROM (
            SELECT order_id, product_id, sum(quantity) AS units FROM order_items
            GROUP BY order_id, product_id
        ) AS i
        JOIN orders o ON o.id = i.order_id
        LEFT JOIN (
            SELECT order_id, product_id, sum(delta) AS delta FROM stock_movements
            WHERE order_id IS NOT NULL GROUP BY order_id, product_id
        ) AS m ON (m.order_id, m.product_id) = (i.order_id, i.product_id)
        WHERE m.delta IS DISTINCT FROM CASE
            WHEN o.status = 'cancelled' OR o.status = 'refunded' AND NOT EXISTS (
                SELECT FROM order_history h WHERE h.order_id = o.id AND h.status = 'shipped'
            ) THEN 0 ELSE -i.units END""",
    "an open order holds its units and another none": """
        SELECT coalesce(i.order_id, r.order_id) AS order_id, i.status, i.product_id, r.product_id,
               i.units, r.units AS held
        FROM (
            SELECT i.order_id, i.product_id, o.status, sum(i.quantity) AS units
            FROM order_items i JOIN orders o ON o.id = i.order_id
            WHERE o.status IN ('pending', 'confirmed') GROUP BY i.order_id, i.product_id, o.status
        ) AS i
        FULL JOIN (
            SELECT order_id, product_id, sum(quantity) AS units FROM reservations
            WHERE status = 'active' AND order_id IS NOT NULL GROUP BY order_id, product_id
        ) AS r ON (r.order_id, r.product_id) = (i.order_id, i.product_id)
        WHERE i.units IS DISTINCT FROM r.units""",
    "ended reservations end as their order did": """
        SELECT r.id, r.status, o.status FROM reservations r LEFT JOIN orders o ON o.id = r.order_id
        WHERE r.order_id IS NOT NULL AND r.status IS DISTINCT FROM CASE
            WHEN o.status IN ('pending', 'confirmed') THEN 'active'
            WHEN o.status = 'cancelled' THEN 'released' ELSE 'consumed' END""",
    "a hold has an end while the order is open": """
        SELECT id, status, reserved_until FROM orders
        WHERE (reserved_until IS NOT NULL) <> (status IN ('pending', 'confirmed'))""",
    "a cancelled order says why": """
        SELECT id, status, cancel_reason FROM orders
        WHERE (cancel_reason IS NOT NULL) <> (status = 'cancelled')
           OR cancel_reason NOT IN ('requested', 'expired')""",
}

_AUDIT: Final = {
    # What an order takes and gives back is part of its own step.
    "each command left one line in the audit": """
        SELECT coalesce(e.subject, a.entity_id), coalesce(e.type, a.action), e.n AS events,
               a.n AS lines
        FROM (
            SELECT subject, type, seller_id, count(*) AS n FROM event_audit
            WHERE topic <> 'shop.inventory' OR type = 'inventory.updated'
            GROUP BY subject, type, seller_id
        ) AS e
        FULL JOIN (
            SELECT entity_id, action, seller_id, count(*) AS n FROM audit_log
            WHERE split_part(action, '.', 1) IN ('product', 'order')
               OR action = 'inventory.updated'
            GROUP BY entity_id, action, seller_id
        ) AS a ON (a.entity_id, a.action, a.seller_id) = (e.subject, e.type, e.seller_id)
        WHERE e.n IS DISTINCT FROM a.n""",
    "each reservation of a seller left its lines in the audit": """
        SELECT coalesce(r.id, a.entity_id), r.status, a.reserved, a.released
        FROM (SELECT * FROM reservations WHERE order_id IS NULL) AS r
        FULL JOIN (
            SELECT entity_id, count(*) FILTER (WHERE action = 'inventory.reserved') AS reserved,
                   count(*) FILTER (WHERE action = 'inventory.released') AS released
            FROM audit_log WHERE action IN ('inventory.reserved', 'inventory.released')
            GROUP BY entity_id
        ) AS a ON a.entity_id = r.id
        WHERE (a.reserved, a.released)
            IS DISTINCT FROM (1::bigint, CASE r.status WHEN 'active' THEN 0 ELSE 1 END::bigint)""",
    "each reservation of a seller moved its units": """
        SELECT r.product_id, r.taken, m.delta
        FROM (
            SELECT product_id, sum(quantity) FILTER (WHERE status = 'active') AS taken
            FROM reservations WHERE order_id IS NULL GROUP BY product_id
        ) AS r
        FULL JOIN (
            SELECT product_id, sum(delta) AS delta FROM stock_movements
            WHERE order_id IS NULL AND cause IN ('inventory.reserved', 'inventory.released')
            GROUP BY product_id
        ) AS m ON m.product_id = r.product_id
        WHERE coalesce(r.taken, 0) + coalesce(m.delta, 0) <> 0""",
}

RULES: Final = {**_LEDGER, **_SEARCH, **_EVENTS, **_OUTBOX, **_ORDERS, **_AUDIT}

#: Databases whose server was away when their test ended.
_postponed: Final[list[str]] = []


def holds(database_url: str) -> list[str]:
    """What breaks a rule, as "rule: values" lines; none when all hold. Raises psycopg.Error."""
    with psycopg.connect(database_url, connect_timeout=CONNECT_SECONDS_MAX) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return broken(connection)


def broken(connection: "psycopg.Connection[Any]") -> list[str]:
    """The same, as the connection's transaction sees it."""
    return [
        f"{rule}: {', '.join(map(str, row))}"
        for rule, query in RULES.items()
        for row in connection.execute(f"{query} LIMIT {SHOWN_MAX}".encode()).fetchall()
    ]


def check(database_url: str) -> None:
    """AssertionError when a rule is broken; postponed while the test's server is stopped."""
    try:
        found = holds(database_url)
    except psycopg.OperationalError:
        _postponed.append(database_url)
        return
    assert not found, "\n".join(found)


def check_postponed() -> None:
    """`check` what could not be checked, now that its server is back."""
    while _postponed:
        found = holds(_postponed.pop())
        assert not found, "\n".join(found)
