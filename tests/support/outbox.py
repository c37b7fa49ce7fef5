"""Rows of the outbox that no request has written."""

from typing import Any

import psycopg

from shopstream_shared.topics import PRODUCTS


def insert_event(
    connection: "psycopg.Connection[Any]",
    key: str,
    payload: bytes = b"{}",
    *,
    sequence: int = 1,
    txrows: int = 1,
) -> None:
    """An event of the product ``key``, one of ``txrows`` in the connection's transaction.

    No product is behind it: it must be published or deleted before the invariants are looked at.
    """
    connection.execute(
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, topic, headers,"
        " time_ms, txid, txrows, shard) VALUES (gen_random_uuid(), 'product', %s,"
        " 'product.created', %s, %s, %s, 0, pg_current_xact_id()::text::bigint, %s, 0)",
        (
            key,
            payload,
            PRODUCTS,
            f'[["ce_type","product.created"],["ce_sequence","{sequence}"]]',
            txrows,
        ),
    )
