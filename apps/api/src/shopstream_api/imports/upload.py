"""One upload: its bytes hashed, cut into records and staged with COPY, slice by slice.

On a connection of its own, whose session holds the upload's key while bytes come: another upload
with it is in flight until this one ends, also when its process dies. What is staged has no import
until the caller makes one; `discard` removes it.
"""

import asyncio
import hashlib
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from shopstream_api.catalog.batch import ROWS_MAX
from shopstream_api.db.wire import DriverConnection
from shopstream_api.idempotency.errors import KeyInFlight
from shopstream_api.idempotency.service import Key
from shopstream_api.imports.models import CSV
from shopstream_api.imports.records import Record, Records
from shopstream_api.imports.rows import Header, read_header
from shopstream_api.principal import Principal

#: A slice is full at this size or at ROWS_MAX records; it is worked in one transaction.
SLICE_BYTES_MAX: Final = 1_048_576
#: Bytes between two breaths: some milliseconds even of empty lines, so that others are not held up.
PIECE_BYTES: Final = 4_096

_CLAIM: Final = "SELECT pg_try_advisory_lock(%s)"
_STAGE: Final = (
    "COPY import_slices (import_id, first_row, records, staged_at) FROM STDIN (FORMAT BINARY)"
)
_DISCARD: Final = "DELETE FROM import_slices WHERE import_id = %s"


class Slices:
    """Gathers records into slices: (number of the first row, the records encoded)."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._bytes = 0
        self._first_row = 1

    def add(self, record: Record) -> tuple[int, bytes] | None:
        """The slice that this record fills."""
        self._records.append(record)
        self._bytes += 0 if record is None else len(record)
        full = len(self._records) == ROWS_MAX or self._bytes >= SLICE_BYTES_MAX
        return self.cut() if full else None

    def cut(self) -> tuple[int, bytes] | None:
        """What has been gathered, if anything."""
        if not self._records:
            return None
        made = self._first_row, encode_slice(self._records)
        self._first_row += len(self._records)
        self._records, self._bytes = [], 0
        return made


class Upload:
    """An upload of ``principal`` under way; ``at`` is when it began."""

    def __init__(
        self,
        connection: DriverConnection,
        import_id: UUID,
        principal: Principal,
        media_type: str,
        at: datetime,
    ) -> None:
        self.id = import_id
        self.header: Header | None = None
        self._connection = connection
        self._principal = principal
        self._media_type = media_type
        self._at = at
        self._hash = hashlib.sha256()
        self._records = Records(quoted=media_type == CSV)
        self._slices = Slices()
        self._staged = False

    async def claim(self, key: Key) -> None:
        """Hold the key until the connection is closed. Raises KeyInFlight."""
        # Not the number that the stored answers are claimed by: that is for the transaction.
        number = int.from_bytes(key.id[8:16], signed=True)
        found = await (await self._connection.execute(_CLAIM, (number,))).fetchone()
        if found is None or not found[0]:
            raise KeyInFlight("An upload with this Idempotency-Key is still being received.")

    @property
    def fingerprint(self) -> dict[str, str]:
        """What an upload with the same key must have in common with this one."""
        return {"mediaType": self._media_type, "sha256": self._hash.hexdigest()}

    def hash(self, data: bytes) -> None:
        """Take bytes for the fingerprint only."""
        self._hash.update(data)

    async def write(self, data: bytes) -> None:
        """Take bytes. Raises MalformedCsv, ValidationFailed for a wrong header; psycopg.Error."""
        self._hash.update(data)
        for start in range(0, len(data), PIECE_BYTES):
            await self._take(self._records.feed(data[start : start + PIECE_BYTES]))
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Take the rest. Raises as `write`; a CSV file without a header has a wrong one."""
        await self._take(self._records.end())
        if self._media_type == CSV and self.header is None:
            read_header(b"", self._principal)
        await self._stage(self._slices.cut())

    async def discard(self) -> None:
        """Remove what was staged."""
        if self._staged:
            await self._connection.execute(_DISCARD, (self.id,))

    async def _take(self, records: list[Record]) -> None:
        for record in records:
            if self._media_type == CSV and self.header is None:
                self.header = read_header(record, self._principal)
            else:
                await self._stage(self._slices.add(record))

    async def _stage(self, made: tuple[int, bytes] | None) -> None:
        if made is None:
            return
        self._staged = True
        async with self._connection.cursor() as cursor, cursor.copy(_STAGE) as copy:
            copy.set_types(("uuid", "int8", "bytea", "timestamptz"))
            await copy.write_row((self.id, *made, self._at))


def encode_slice(records: list[Record]) -> bytes:
    """Records as they are staged."""
    return msgspec.msgpack.encode(records)


def decode_slice(encoded: bytes) -> list[Record]:
    """Raises msgspec.MsgspecError for anything that `encode_slice` has not made."""
    return msgspec.msgpack.decode(encoded, type=list[bytes | None])
