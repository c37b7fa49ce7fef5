"""The stock routes."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shopstream_api.db.transaction import Database, Transaction
from shopstream_api.errors import NotFound
from shopstream_api.idempotency.repository import Answer
from shopstream_api.stock.repository import StockRepository
from shopstream_api.stock.schemas import (
    change_body,
    inventory_body,
    movement_body,
    read_adjustment,
    read_set,
)
from shopstream_api.stock.service import StockService
from shopstream_api.web.body import read_json
from shopstream_api.web.openapi import PAGED, Operation, routes
from shopstream_api.web.query import Query, page_body
from shopstream_api.web.respond import execute, json_answer, path_id, principal_of, shown


class StockRoutes:
    """Handlers over one database."""

    def __init__(self, database: Database, service: StockService) -> None:
        self._database = database
        self._service = service

    async def adjust(self, request: Request) -> Response:
        principal, product_id = principal_of(request), path_id(request, "product")
        body = await read_json(request)
        adjustment = read_adjustment(body)

        async def work(tx: Transaction) -> Answer:
            row = await self._service.adjust(tx, principal, product_id, adjustment)
            return json_answer(201, change_body(row, adjustment.delta, adjustment.reason))

        return await execute(request, self._database, work, body=body, key_required=True)

    async def set(self, request: Request) -> Response:
        principal, product_id = principal_of(request), path_id(request, "product")
        wanted = read_set(await read_json(request))

        async def work(tx: Transaction) -> Answer:
            row, delta = await self._service.set(tx, principal, product_id, wanted)
            return json_answer(200, change_body(row, delta, None))

        return await execute(request, self._database, work)

    async def inventory(self, request: Request) -> Response:
        product_id = path_id(request, "product")
        async with self._database.reading() as connection:
            row, position = await StockRepository(connection).inventory(product_id)
        if row is None:
            raise NotFound("There is no such product.")
        return shown(json_answer(200, inventory_body(row, self._service.threshold)), position)

    async def movements(self, request: Request) -> Response:
        product_id = path_id(request, "product")
        paging = Query(request).paging("movements", product_id)
        async with self._database.reading() as connection:
            repository = StockRepository(connection)
            row, position = await repository.inventory(product_id)
            page = await repository.movements(product_id, paging)
        if row is None:
            raise NotFound("There is no such product.")
        body = page_body(page, [movement_body(movement) for movement in page.items])
        return shown(json_answer(200, body), position)


def router(database: Database, service: StockService) -> APIRouter:
    """The routes of stock."""
    made = StockRoutes(database, service)
    one = "/products/{id}"
    return routes(
        "stock",
        (
            Operation(
                "POST",
                f"{one}/stock-adjustments",
                made.adjust,
                "adjustStock",
                "Add or take units",
                body="StockAdjustment",
                answer="StockChange",
                status=201,
                key="required",
            ),
            Operation(
                "PUT",
                f"{one}/stock",
                made.set,
                "setStock",
                "Set the stock, if it is what you expect",
                body="SetStock",
                answer="StockChange",
            ),
            Operation(
                "GET",
                f"{one}/inventory",
                made.inventory,
                "getInventory",
                "Read what is sellable, held and on hand",
                answer="StockLevel",
            ),
            Operation(
                "GET",
                f"{one}/stock-movements",
                made.movements,
                "listStockMovements",
                "List every change of the stock, newest first",
                answer="MovementPage",
                query=PAGED,
            ),
        ),
    )
