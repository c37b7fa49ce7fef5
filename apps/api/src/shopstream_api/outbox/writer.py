"""Events and audit rows of one transaction, written together as its last statement.

Protocol rules kept here:

- Rule 1: a row has Debezium's columns, the topic, the headers, the transaction's id and a shard;
  ``seq`` is drawn by the database, never by us.
- Rule 2: ``seq`` is drawn after the aggregate's row lock. State changes run before this statement
  in the same transaction, so their locks are held, and `unnest … WITH ORDINALITY … ORDER BY` gives
  the rows their numbers in the order they were recorded, cause before effect.
- Rule 4: all rows of a transaction carry how many there are, so that the relay never splits them.
- Rule 12: with each event goes one slim audit row, in the same statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_shared.clock import epoch_ms
from shopstream_shared.events.codec import EncodedEvent
from shopstream_shared.topics import INVENTORY, ORDERS, PRODUCTS

#: Rule 4's bound: a command of the API writes at most this many events.
EVENTS_A_TRANSACTION_MAX: Final = 2_000

_AGGREGATE_TYPES: Final = {PRODUCTS: "product", ORDERS: "order", INVENTORY: "inventory"}

_encode_headers: Final = msgspec.json.Encoder().encode

_INSERT: Final = text("""
WITH e AS (
    SELECT * FROM unnest(
        CAST(:id AS uuid[]), CAST(:aggregatetype AS text[]), CAST(:aggregateid AS text[]),
        CAST(:type AS text[]), CAST(:payload AS bytea[]), CAST(:topic AS text[]),
        CAST(:headers AS bytea[]), CAST(:time_ms AS bigint[]), CAST(:seller_id AS text[]),
        CAST(:sequence AS integer[]), CAST(:time AS timestamptz[]),
        CAST(:amount_minor AS bigint[]), CAST(:currency AS text[])
    ) WITH ORDINALITY AS t (
        id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms, seller_id,
        sequence, time, amount_minor, currency, n
    )
), o AS (
    INSERT INTO outbox
        (id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms, txid, txrows,
         shard)
    SELECT id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms,
           CAST(CAST(pg_current_xact_id() AS text) AS bigint), :txrows, 0
    FROM e ORDER BY n
), a AS (
    INSERT INTO event_audit
        (topic, subject, sequence, event_id, type, seller_id, time, amount_minor, currency, sha256)
    SELECT topic, CAST(aggregateid AS uuid), sequence, id, type, seller_id, time, amount_minor,
           currency, sha256(payload)
    FROM e ORDER BY n
)
INSERT INTO audit_log (id, action, entity_type, entity_id, seller_id, request_id, at)
SELECT * FROM unnest(
    CAST(:audit_id AS uuid[]), CAST(:action AS text[]), CAST(:entity_type AS text[]),
    CAST(:entity_id AS uuid[]), CAST(:audit_seller AS text[]), CAST(:request_id AS text[]),
    CAST(:at AS timestamptz[])
)
""")


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


async def write(
    connection: AsyncConnection, events: Sequence[OutboxEvent], audits: Sequence[AuditEntry]
) -> None:
    """Insert all of a transaction's events and audit entries.

    Raises ValueError above EVENTS_A_TRANSACTION_MAX.
    """
    if len(events) > EVENTS_A_TRANSACTION_MAX:
        msg = f"{len(events)} events in one transaction; at most {EVENTS_A_TRANSACTION_MAX}"
        raise ValueError(msg)
    plain = [entry.event for entry in events]
    await connection.execute(
        _INSERT,
        {
            "id": [event.id for event in plain],
            "aggregatetype": [_AGGREGATE_TYPES[event.topic] for event in plain],
            "aggregateid": [event.subject for event in plain],
            "type": [event.type for event in plain],
            "payload": [event.value for event in plain],
            "topic": [event.topic for event in plain],
            "headers": [_headers(event) for event in plain],
            "time_ms": [epoch_ms(event.time) for event in plain],
            "seller_id": [event.seller_id for event in plain],
            "sequence": [event.sequence for event in plain],
            "time": [event.time for event in plain],
            "amount_minor": [entry.amount_minor for entry in events],
            "currency": [entry.currency for entry in events],
            "txrows": len(events),
            "audit_id": [entry.id for entry in audits],
            "action": [entry.action for entry in audits],
            "entity_type": [entry.entity_type for entry in audits],
            "entity_id": [entry.entity_id for entry in audits],
            "audit_seller": [entry.seller_id for entry in audits],
            "request_id": [entry.request_id for entry in audits],
            "at": [entry.at for entry in audits],
        },
    )


def _headers(event: EncodedEvent) -> bytes:
    return _encode_headers([(name, value.decode()) for name, value in event.headers])
