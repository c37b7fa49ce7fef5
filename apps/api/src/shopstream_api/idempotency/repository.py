"""SQL of the idempotency keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import DateTime, delete, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.idempotency.models import idempotency_keys

#: Swept at most this many at a time, so that a sweep is never a long transaction.
SWEEP_ROWS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it left: status, headers of its own, and the exact bytes of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class KeyRepository:
    """Keys on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def claim(self, key_id: bytes) -> bool:
        """Hold the key until the transaction ends; False when another transaction holds it."""
        number = int.from_bytes(key_id[:8], signed=True)
        found = await self._connection.execute(select(func.pg_try_advisory_xact_lock(number)))
        return bool(found.scalar_one())

    async def answered(self, key_id: bytes, since: datetime) -> tuple[bytes, Answer] | None:
        """The fingerprint and answer stored under the key, unless it has expired."""
        table = idempotency_keys.c
        found = await self._connection.execute(
            select(table.fingerprint, table.status, table.headers, table.body).where(
                table.id == key_id, table.created_at > since
            )
        )
        row = found.first()
        return None if row is None else (row[0], Answer(row[1], row[2], row[3]))

    async def store(self, key_id: bytes, fingerprint: bytes, answer: Answer, at: datetime) -> None:
        """Keep the answer; an expired one of the same key makes room."""
        values = {
            "fingerprint": fingerprint,
            "status": answer.status,
            "headers": dict(answer.headers),
            "body": answer.body,
            "created_at": at,
        }
        statement = insert(idempotency_keys).values(id=key_id, **values)
        await self._connection.execute(
            statement.on_conflict_do_update(index_elements=["id"], set_=values)
        )

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
