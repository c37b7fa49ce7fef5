"""A keyed command: claimed, run and answered inside the one business transaction.

The claim is a transaction-scoped advisory lock and the answer a row of the same transaction, so a
crash leaves neither a half-open claim nor an effect without its answer. A command that a business
rule refuses is undone to a savepoint, and the refusal is what the key answers from then on;
validation errors and failures are never stored.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from shopstream_api.db.transaction import Transaction
from shopstream_api.errors import BusinessError
from shopstream_api.idempotency.errors import KeyInFlight, KeyInvalid, KeyReused
from shopstream_api.idempotency.repository import Answer, KeyRepository

KEY_LENGTH_MAX: Final = 255
KEPT: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Key:
    """A key in its scope, and the fingerprint of the body it came with."""

    id: bytes
    fingerprint: bytes

    @classmethod
    def of(cls, key: str, *, caller: str, method: str, path: str, body: object) -> "Key":
        """Raises KeyInvalid. Order of members and white space of the body do not matter."""
        if not (1 <= len(key) <= KEY_LENGTH_MAX and all(" " <= c <= "~" for c in key)):
            raise KeyInvalid(
                f"An Idempotency-Key is 1 to {KEY_LENGTH_MAX} printable ASCII characters."
            )
        scope = f"{caller}\n{method}\n{path}\n{key}"
        return cls(
            hashlib.sha256(scope.encode()).digest(),
            hashlib.sha256(_canonical(body).encode()).digest(),
        )


async def answer(
    tx: Transaction,
    key: Key,
    work: Callable[[Transaction], Awaitable[Answer]],
    refusal: Callable[[BusinessError], Answer],
) -> tuple[Answer, bool]:
    """The command's answer, and whether it is a replay.

    Raises KeyInFlight, KeyReused, and whatever ``work`` raises that is not a BusinessError.
    """
    keys, now = KeyRepository(tx.statements), tx.now()
    claimed, stored = await keys.claim(key.id, since=now - KEPT)
    if not claimed:
        raise KeyInFlight("A request with this Idempotency-Key is still being worked on.")
    if stored is not None:
        fingerprint, earlier = stored
        if fingerprint != key.fingerprint:
            raise KeyReused("This Idempotency-Key came with another body before.")
        return earlier, True
    try:
        async with tx.savepoint():
            result = await work(tx)
    except BusinessError as error:
        result = refusal(error)
    keys.store(key.id, key.fingerprint, result, now)
    return result, False


def _canonical(value: object) -> str:
    """One text for all spellings of one JSON value: 1.0, 1.00 and 1 are one number."""
    if isinstance(value, dict):
        inner = ",".join(f"{name!r}:{_canonical(value[name])}" for name in sorted(value))
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_canonical, value))}]"
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        sign, digits, exponent = Decimal(value).as_tuple()
        figures = "".join(map(str, digits)).lstrip("0")
        kept = figures.rstrip("0")
        shift = int(exponent) + len(figures) - len(kept)
        return f"{sign}:{kept}e{shift}" if kept else "0"
    return ascii(value)
