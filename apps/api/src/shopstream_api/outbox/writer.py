"""Events and audit rows of one transaction, written together as its last statement.

Protocol rules kept here:

- Rule 1: a row has Debezium's columns, the topic, the headers, the transaction's id and a shard;
  ``seq`` is drawn by the database, never by us.
- Rule 2: ``seq`` is drawn after the aggregate's row lock. State changes run before this statement
  in the same transaction, so their locks are held, and `unnest … WITH ORDINALITY … ORDER BY` gives
  the rows their numbers in the order they were recorded, cause before effect.
- Rule 4: all rows of a transaction carry how many there are, so that the relay never splits them.
  The shard is the last 28 bits of the aggregate's UUID, random in version 7, modulo the number of
  shards: of our own making, so that no release of the server moves an aggregate elsewhere.
- Rule 12: with each event goes one slim audit row, in the same statement.

A statement that changes the state itself (`catalog/batch.py`) joins the same pieces behind its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from shopstream_api.db import arrays
from shopstream_api.db.pipeline import Pipeline
from shopstream_api.db.wire import Statement
from shopstream_shared.clock import epoch_ms
from shopstream_shared.events.codec import EncodedEvent
from shopstream_shared.topics import INVENTORY, ORDERS, PRODUCTS

#: Rule 4's bound: a command of the API writes at most this many events.
EVENTS_A_TRANSACTION_MAX: Final = 2_000

AGGREGATE_TYPES: Final = {PRODUCTS: "product", ORDERS: "order", INVENTORY: "inventory"}

_encode_pairs: Final = msgspec.json.Encoder().encode

#: What writes the events of a CTE ``e`` in the order of its ``n``, as CTEs of the same statement.
#: ``e``: id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms, seller_id,
#: sequence, time, amount_minor, currency, n.
FROM_EVENTS: Final = """
o AS (
    INSERT INTO outbox
        (id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms, txid, txrows,
         shard)
    SELECT id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms,
           pg_current_xact_id()::text::bigint, (SELECT count(*) FROM e),
           CASE (SELECT s.count FROM outbox_shards s) WHEN 1 THEN 0 ELSE
               mod(('x' || right(aggregateid, 7))::bit(28)::integer,
                   (SELECT s.count FROM outbox_shards s)) END
    FROM e ORDER BY n
), a AS (
    INSERT INTO event_audit
        (topic, subject, sequence, event_id, type, seller_id, time, amount_minor, currency, sha256)
    SELECT topic, aggregateid::uuid, sequence, id, type, seller_id, time, amount_minor, currency,
           sha256(payload)
    FROM e ORDER BY n
)"""
#: What writes the audit entries of a CTE ``l``: id, action, entity_type, entity_id, seller_id,
#: request_id, at.
FROM_AUDITS: Final = """
INSERT INTO audit_log (id, action, entity_type, entity_id, seller_id, request_id, at)
SELECT id, action, entity_type, entity_id, seller_id, request_id, at FROM l"""

_WRITE: Final = Statement(
    "outbox_write",
    f"""
WITH e AS (
    SELECT * FROM unnest(
        %(id)s, %(aggregatetype)s, %(aggregateid)s, %(type)s, %(payload)s, %(topic)s, %(headers)s,
        %(time_ms)s, %(seller_id)s, %(sequence)s, %(time)s, %(amount_minor)s, %(currency)s
    ) WITH ORDINALITY AS t (
        id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms, seller_id,
        sequence, time, amount_minor, currency, n
    )
), l AS (
    SELECT * FROM unnest(
        %(audit_id)s, %(action)s, %(entity_type)s, %(entity_id)s, %(audit_seller)s,
        %(request_id)s, %(at)s
    ) AS t (id, action, entity_type, entity_id, seller_id, request_id, at)
), {FROM_EVENTS}
{FROM_AUDITS}
""",  # noqa: S608 - put together from constants
)


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One event and the amount verify adds up: total of a paid order, step of a refund."""

    event: EncodedEvent
    amount_minor: int | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to which thing, as operators read it."""

    id: str
    action: str
    entity_type: str
    entity_id: str
    seller_id: str
    request_id: str
    at: datetime


def write(
    statements: Pipeline, events: Sequence[OutboxEvent], audits: Sequence[AuditEntry]
) -> None:
    """Insert all of a transaction's events and audit entries.

    Raises ValueError above EVENTS_A_TRANSACTION_MAX.
    """
    if len(events) > EVENTS_A_TRANSACTION_MAX:
        msg = f"{len(events)} events in one transaction; at most {EVENTS_A_TRANSACTION_MAX}"
        raise ValueError(msg)
    plain = [entry.event for entry in events]
    statements.add(
        _WRITE,
        {
            "id": arrays.uuid_texts(event.id for event in plain),
            "aggregatetype": arrays.texts(AGGREGATE_TYPES[event.topic] for event in plain),
            "aggregateid": arrays.texts(event.subject for event in plain),
            "type": arrays.texts(event.type for event in plain),
            "payload": arrays.blobs(event.value for event in plain),
            "topic": arrays.texts(event.topic for event in plain),
            "headers": arrays.blobs(encode_headers(event) for event in plain),
            "time_ms": arrays.bigints(epoch_ms(event.time) for event in plain),
            "seller_id": arrays.texts(event.seller_id for event in plain),
            "sequence": arrays.integers(event.sequence for event in plain),
            "time": arrays.moments(event.time for event in plain),
            "amount_minor": arrays.bigints(entry.amount_minor for entry in events),
            "currency": arrays.texts(entry.currency for entry in events),
            "audit_id": arrays.uuid_texts(entry.id for entry in audits),
            "action": arrays.texts(entry.action for entry in audits),
            "entity_type": arrays.texts(entry.entity_type for entry in audits),
            "entity_id": arrays.uuid_texts(entry.entity_id for entry in audits),
            "audit_seller": arrays.texts(entry.seller_id for entry in audits),
            "request_id": arrays.texts(entry.request_id for entry in audits),
            "at": arrays.moments(entry.at for entry in audits),
        },
    )


def encode_headers(event: EncodedEvent) -> bytes:
    """The headers as the outbox keeps them: JSON pairs of texts."""
    return _encode_pairs([(name, value.decode()) for name, value in event.headers])
