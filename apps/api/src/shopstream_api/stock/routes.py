"""The stock routes."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shopstream_api.db.transaction import Database, Transaction
from shopstream_api.errors import NotFound, VersionMismatch
from shopstream_api.idempotency.repository import Answer
from shopstream_api.stock.errors import InsufficientStock
from shopstream_api.stock.low_stock import low_stock_page
from shopstream_api.stock.repository import StockReader
from shopstream_api.stock.schemas import (
    change_body,
    inventory_body,
    low_stock_body,
    movement_body,
    read_adjustment,
    read_reservation,
    read_set,
    reservation_body,
)
from shopstream_api.stock.service import StockService
from shopstream_api.web.body import read_json
from shopstream_api.web.openapi import PAGED, Operation, routes
from shopstream_api.web.query import Query, page_body
from shopstream_api.web.respond import (
    NO_CONTENT,
    execute,
    json_answer,
    path_id,
    principal_of,
    shown,
)

_ONE: Final = "/products/{id}"


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
            row, position = await StockReader(connection).inventory(product_id)
        if row is None:
            raise NotFound("There is no such product.")
        return shown(json_answer(200, inventory_body(row, self._service.threshold)), position)

    async def movements(self, request: Request) -> Response:
        product_id = path_id(request, "product")
        paging = Query(request).paging("movements", product_id, numbered=True)
        async with self._database.reading() as connection:
            repository = StockReader(connection)
            row, position = await repository.inventory(product_id)
            page = await repository.movements(product_id, paging)
        if row is None:
            raise NotFound("There is no such product.")
        body = page_body(page, [movement_body(movement) for movement in page.items])
        return shown(json_answer(200, body), position)

    async def reserve(self, request: Request) -> Response:
        principal, product_id = principal_of(request), path_id(request, "product")
        body = await read_json(request)
        wanted = read_reservation(body)
        prefix = request.scope["path"].partition("/products/")[0]

        async def work(tx: Transaction) -> Answer:
            held = await self._service.reserve(tx, principal, product_id, wanted)
            location = f"{prefix}/reservations/{held.id}"
            return json_answer(201, reservation_body(held), {"location": location})

        return await execute(request, self._database, work, body=body, keyed=True)

    async def release(self, request: Request) -> Response:
        principal, reservation_id = principal_of(request), path_id(request, "reservation")

        async def work(tx: Transaction) -> Answer:
            await self._service.release(tx, principal, reservation_id)
            return NO_CONTENT

        return await execute(request, self._database, work)

    async def low(self, request: Request) -> Response:
        query = Query(request)
        own, wanted = principal_of(request).seller_id, query.text("sellerId")
        sellers = sorted({seller for seller in (own, wanted) if seller is not None})
        paging = query.paging("low-stock", sellers)
        threshold = self._service.threshold
        async with self._database.reading() as connection:
            page, position = await low_stock_page(connection, threshold, sellers, paging)
        body = page_body(page, [low_stock_body(row, threshold) for row in page.items])
        return shown(json_answer(200, body), position)


def router(database: Database, service: StockService) -> APIRouter:
    """The routes of stock."""
    made = StockRoutes(database, service)
    return routes("stock", (*_changes(made), *_reservations(made), *_reads(made)))


def _changes(made: StockRoutes) -> tuple[Operation, ...]:
    return (
        Operation(
            "POST",
            f"{_ONE}/stock-adjustments",
            made.adjust,
            "adjustStock",
            "Add or take units",
            body="StockAdjustment",
            answer="StockChange",
            status=201,
            key="required",
            errors=(InsufficientStock,),
        ),
        Operation(
            "PUT",
            f"{_ONE}/stock",
            made.set,
            "setStock",
            "Set the stock, if it is what you expect",
            body="SetStock",
            answer="StockChange",
            errors=(VersionMismatch,),
        ),
    )


def _reservations(made: StockRoutes) -> tuple[Operation, ...]:
    return (
        Operation(
            "POST",
            f"{_ONE}/reservations",
            made.reserve,
            "reserveStock",
            "Hold units for a while",
            body="NewReservation",
            answer="Reservation",
            status=201,
            key="optional",
            errors=(InsufficientStock,),
        ),
        Operation(
            "DELETE",
            "/reservations/{id}",
            made.release,
            "releaseReservation",
            "End a reservation and give its units back",
            status=204,
        ),
    )


def _reads(made: StockRoutes) -> tuple[Operation, ...]:
    return (
        Operation(
            "GET",
            f"{_ONE}/inventory",
            made.inventory,
            "getInventory",
            "Read what is sellable, held and on hand",
            answer="StockLevel",
        ),
        Operation(
            "GET",
            f"{_ONE}/stock-movements",
            made.movements,
            "listStockMovements",
            "List every change of the stock, newest first",
            answer="MovementPage",
            query=PAGED,
        ),
        Operation(
            "GET",
            "/inventory/low-stock",
            made.low,
            "listLowStock",
            "List products at or below the low-stock threshold, newest first",
            answer="LowStockPage",
            query=(*PAGED, "sellerId"),
            seller=True,
        ),
    )
