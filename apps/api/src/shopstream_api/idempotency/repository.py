"""SQL of the idempotency keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import DateTime, delete, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.db import arrays
from shopstream_api.db.pipeline import Pipeline
from shopstream_api.db.wire import Statement
from shopstream_api.idempotency.models import idempotency_keys

#: Swept at most this many at a time, so that a sweep is never a long transaction.
SWEEP_ROWS_MAX: Final = 1_000

_CLAIM: Final = Statement("key_claim", "SELECT pg_try_advisory_xact_lock((%(numbers)s)[1])")
_ANSWERED: Final = Statement(
    "key_answered",
    """
SELECT fingerprint, status, headers, body FROM idempotency_keys
WHERE id = (%(ids)s)[1] AND created_at > (%(since)s)[1]
""",
)
_STORE: Final = Statement(
    "key_store",
    """
INSERT INTO idempotency_keys (id, fingerprint, status, headers, body, created_at)
SELECT id, fingerprint, status, headers::jsonb, body, created_at
FROM unnest(%(ids)s, %(fingerprints)s, %(statuses)s, %(headers)s, %(bodies)s, %(at)s)
    AS k (id, fingerprint, status, headers, body, created_at)
ON CONFLICT (id) DO UPDATE SET fingerprint = excluded.fingerprint, status = excluded.status,
    headers = excluded.headers, body = excluded.body, created_at = excluded.created_at
""",
)
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it left: status, headers of its own, and the exact bytes of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


#: The fingerprint of the body that an answer was given to, and the answer.
Stored = tuple[bytes, Answer]


class KeyRepository:
    """Keys in a command's transaction."""

    def __init__(self, statements: Pipeline) -> None:
        self._statements = statements

    async def claim(self, key_id: bytes, since: datetime) -> tuple[bool, Stored | None]:
        """Hold the key until the transaction ends; False when another transaction holds it.

        And what is stored under it since then: read after the lock is had, by a statement of its
        own, so that it is what the one who held it before has left.
        """
        ids = arrays.blobs([key_id])
        held, stored = await self._statements.together(
            (_CLAIM, {"numbers": arrays.bigints([int.from_bytes(key_id[:8], signed=True)])}),
            (_ANSWERED, {"ids": ids, "since": arrays.moments([since])}),
        )
        return held[0][0], _stored(stored[0]) if stored else None

    def store(self, key_id: bytes, fingerprint: bytes, answer: Answer, at: datetime) -> None:
        """Keep the answer; an expired one of the same key makes room."""
        self._statements.add(
            _STORE,
            {
                "ids": arrays.blobs([key_id]),
                "fingerprints": arrays.blobs([fingerprint]),
                "statuses": arrays.integers([answer.status]),
                "headers": arrays.texts([_encode(answer.headers).decode()]),
                "bodies": arrays.blobs([answer.body]),
                "at": arrays.moments([at]),
            },
        )


class KeyReader:
    """Keys outside of commands, on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def answered(self, key_id: bytes, since: datetime) -> Stored | None:
        """The fingerprint and answer stored under the key, unless it has expired."""
        table = idempotency_keys.c
        found = await self._connection.execute(
            select(table.fingerprint, table.status, table.headers, table.body).where(
                table.id == key_id, table.created_at > since
            )
        )
        row = found.first()
        return None if row is None else _stored(row)

    async def sweep(self, before: datetime) -> int:
        """Forget keys older than ``before``, up to SWEEP_ROWS_MAX; returns how many."""
        # As a literal: a plan kept from when there were no keys would read all of them. Locked, as
        # one that is stored anew meanwhile must stay.
        moment = literal(before, DateTime(timezone=True), literal_execute=True)
        table = idempotency_keys.c
        old = (
            select(table.id)
            .where(table.created_at <= moment)
            .order_by(table.created_at)
            .limit(SWEEP_ROWS_MAX)
            .with_for_update(skip_locked=True)
        )
        result = await self._connection.execute(
            delete(idempotency_keys).where(table.id == func.any(func.array(old.scalar_subquery())))
        )
        return result.rowcount


def _stored(row: Sequence[Any]) -> Stored:
    return row[0], Answer(row[1], row[2], row[3])
