"""The routes of imports."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final
from uuid import UUID

import psycopg
from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from shopstream_api.db.transaction import Database, Transaction
from shopstream_api.errors import NotFound, Unavailable
from shopstream_api.idempotency.repository import Answer, KeyReader
from shopstream_api.idempotency.service import KEPT, Key
from shopstream_api.imports import service
from shopstream_api.imports.errors import EmptyFile, MalformedCsv, UploadIncomplete
from shopstream_api.imports.models import CSV, NDJSON, ImportRow, RowError
from shopstream_api.imports.repository import ImportRepository
from shopstream_api.imports.upload import Upload
from shopstream_api.principal import Principal
from shopstream_api.web.body import require_type
from shopstream_api.web.errors import BodyTooLarge
from shopstream_api.web.openapi import Operation, routes
from shopstream_api.web.problems import JSON_ENCODER
from shopstream_api.web.respond import (
    context_of,
    execute,
    json_answer,
    path_id,
    principal_of,
    required_key,
    response_of,
)
from shopstream_shared.clock import Clock, IdSource

#: Uploads received at a time by one process; each has a database connection.
UPLOADS_MAX: Final = 4
#: An upload that sends nothing for this long is given up; so is one that takes this long in all.
IDLE_SECONDS_MAX: Final = 30.0
UPLOAD_SECONDS_MAX: Final = 3_600.0
DISCARD_SECONDS_MAX: Final = 5.0
#: Errors read at a time while they are sent.
ERRORS_A_PAGE: Final = 1_000
_ABOUT: Final = """\
A file of products, streamed: up to 1 GiB of NDJSON (a product body a line) or of CSV with a header
row, whose columns are members of a product body. Products are created or replaced by seller and
sku, as PUT would; `stock`, where a row has it, is set. Rows are applied after the answer, and each
change is one event; a row that cannot be applied is listed at `/imports/{id}/errors` and stops no
other. Rows count from 1, the first data row; blank lines are none.

In CSV an empty cell is an absent member, numbers are written as in JSON, and `tags` are a JSON
list or texts with `|` between them. `name`, `price` and `sku` are required columns, and `sellerId`
unless the caller sends X-Seller-Id."""


class ImportRoutes:
    """Handlers over one database; ``wake`` tells the worker of a new import."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: IdSource,
        wake: Callable[[], None],
        *,
        bytes_max: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._wake = wake
        self._bytes_max = bytes_max
        self._receiving = asyncio.Semaphore(UPLOADS_MAX)

    async def create(self, request: Request) -> Response:
        """Stage the body, then make it an import, its key and its answer in one transaction."""
        principal = principal_of(request)
        media_type = require_type(request, (NDJSON, CSV))
        key = required_key(request)
        announced = request.headers.get("content-length", "")
        if announced.isdigit():
            self._require_size(int(announced))
        if self._receiving.locked():
            raise Unavailable(f"{UPLOADS_MAX} uploads are being received; try again later.")
        async with self._receiving, self._database.session() as connection:
            upload = Upload(
                connection, UUID(self._ids.new_id()), principal, media_type, self._clock.now()
            )
            await upload.claim(key)
            try:
                again = await self._answered(key)
                await self._receive(request, upload, again=again)
            except BaseException:
                await _discard(upload)
                raise
            # What fails from here on may have been committed: its slices are the sweep's to judge.
            response = await self._accept(request, upload, principal, again=again)
            if "idempotent-replayed" in response.headers:
                await _discard(upload)
        self._wake()
        return response

    async def get(self, request: Request) -> Response:
        row = await self._found(request)
        return response_of(json_answer(200, row.shown()))

    async def errors(self, request: Request) -> Response:
        row = await self._found(request)
        first = await self._page(row, 0)
        return StreamingResponse(self._lines(row, first), media_type=NDJSON)

    async def _receive(self, request: Request, upload: Upload, *, again: bool) -> None:
        """``again``: the key is answered already, so that only the bytes are compared."""
        read = 0
        async for chunk in _chunks(request):
            read += len(chunk)
            self._require_size(read)
            if again:
                upload.hash(chunk)
            else:
                await upload.write(chunk)
        if read == 0:
            raise EmptyFile("The body is empty.")
        if not again:
            await upload.end()

    def _require_size(self, size: int) -> None:
        if size > self._bytes_max:
            raise BodyTooLarge(f"At most {self._bytes_max} bytes are read.")

    async def _accept(
        self, request: Request, upload: Upload, principal: Principal, *, again: bool
    ) -> Response:
        row = ImportRow(
            upload.id,
            principal.seller_id,
            "running",
            upload.fingerprint["mediaType"],
            upload.header,
            context_of(request),
        )

        async def work(tx: Transaction) -> Answer:
            if again:
                raise Unavailable("The key's answer expired while the file came; send it again.")
            await service.accept(tx, row)
            location = f"{request.scope['path']}/{row.id}"
            return json_answer(202, row.shown(), {"location": location})

        return await execute(
            request, self._database, work, body=upload.fingerprint, key_required=True
        )

    async def _answered(self, key: Key) -> bool:
        async with self._database.reading() as connection:
            since = self._clock.now() - KEPT
            return await KeyReader(connection).answered(key.id, since) is not None

    async def _found(self, request: Request) -> ImportRow:
        principal, import_id = principal_of(request), path_id(request, "import")
        async with self._database.reading() as connection:
            row = await ImportRepository(connection).shown(import_id)
        if row is None:
            raise NotFound("There is no such import.")
        principal.require_owner(row.seller_id or "", "import")
        return row

    async def _page(self, row: ImportRow, after: int) -> list[RowError]:
        async with self._database.reading() as connection:
            return await ImportRepository(connection).errors(row.id, after, ERRORS_A_PAGE)

    async def _lines(self, row: ImportRow, page: list[RowError]) -> AsyncIterator[bytes]:
        while page:
            yield b"".join(
                JSON_ENCODER.encode({"row": e.row, "code": e.code, "detail": e.detail}) + b"\n"
                for e in page
            )
            page = await self._page(row, page[-1].row)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises UploadIncomplete."""
    stream = request.stream()
    end = time.monotonic() + UPLOAD_SECONDS_MAX
    while (left := end - time.monotonic()) > 0:
        try:
            async with asyncio.timeout(min(IDLE_SECONDS_MAX, left)):
                chunk = await anext(stream, None)
        except ClientDisconnect:
            raise UploadIncomplete("The upload was cut off.") from None
        except TimeoutError:
            break
        if chunk is None:
            return
        yield chunk
    raise UploadIncomplete("The upload took too long.")


async def _discard(upload: Upload) -> None:
    """What cannot be removed now is swept later."""
    with contextlib.suppress(psycopg.Error, TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS_MAX):
            await upload.discard()


def router(made: ImportRoutes) -> APIRouter:
    """The routes of imports."""
    one = "/imports/{id}"
    return routes(
        "imports",
        (
            Operation(
                "POST",
                "/imports",
                made.create,
                "createImport",
                "Import products from a file",
                body="ImportFile",
                body_types=(NDJSON, CSV),
                answer="Import",
                status=202,
                key="required",
                errors=(EmptyFile, MalformedCsv, UploadIncomplete),
                description=_ABOUT,
            ),
            Operation(
                "GET",
                one,
                made.get,
                "getImport",
                "Read how far an import is",
                answer="Import",
                seller=True,
            ),
            Operation(
                "GET",
                f"{one}/errors",
                made.errors,
                "listImportErrors",
                "Read the rows that could not be applied",
                answer="ImportErrors",
                answer_type=NDJSON,
                seller=True,
            ),
        ),
    )
