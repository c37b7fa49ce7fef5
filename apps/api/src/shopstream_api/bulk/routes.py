"""The route of bulk requests."""

from http import HTTPStatus

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shopstream_api.bulk import service
from shopstream_api.bulk.errors import RowsRefused
from shopstream_api.bulk.schemas import ITEMS_MAX, read_bulk
from shopstream_api.bulk.service import Result
from shopstream_api.catalog.batch import Draft
from shopstream_api.db.transaction import Database, Transaction
from shopstream_api.idempotency.repository import Answer
from shopstream_api.web.body import read_json
from shopstream_api.web.openapi import Operation, routes
from shopstream_api.web.respond import execute, json_answer, principal_of, refusal_of


class BulkRoutes:
    """Handlers over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, request: Request) -> Response:
        principal = principal_of(request)
        body = await read_json(request)
        wanted = read_bulk(body, principal)

        async def work(tx: Transaction) -> Answer:
            results = await service.create(tx, principal, wanted)
            shown = [_shown(request, index, result) for index, result in enumerate(results)]
            return json_answer(200, {"results": shown})

        return await execute(request, self._database, work, body=body, key_required=True)


def _shown(request: Request, index: int, result: Result) -> dict[str, object]:
    """A row's result; its problem is the one that the row alone would be answered with."""
    if isinstance(result, Draft):
        return {
            "index": index,
            "status": HTTPStatus.CREATED.value,
            "product": msgspec.Raw(result.body),
        }
    refused = refusal_of(request, result)
    return {"index": index, "status": refused.status, "problem": msgspec.Raw(refused.body)}


def router(database: Database) -> APIRouter:
    """The route of bulk requests."""
    return routes(
        "products",
        (
            Operation(
                "POST",
                "/products/bulk",
                BulkRoutes(database).create,
                "createProducts",
                "Create many products",
                body="BulkProducts",
                answer="BulkResults",
                key="required",
                errors=(RowsRefused,),
                description=(
                    f"Up to {ITEMS_MAX} products in one transaction. Each row has a result of its "
                    "own: the product, or the problem it would be answered with alone. With "
                    "`atomic` the rows are all created, or none is and the answer is 422."
                ),
            ),
        ),
    )
