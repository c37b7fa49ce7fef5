"""The order routes."""

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shopstream_api.db.transaction import Database, Transaction
from shopstream_api.errors import NotFound
from shopstream_api.idempotency.repository import Answer
from shopstream_api.orders.errors import (
    IllegalTransition,
    MixedCurrencies,
    MixedSellers,
    ProductNotAvailable,
    RefundTooLarge,
)
from shopstream_api.orders.models import OrderRow
from shopstream_api.orders.place import PlaceOrders
from shopstream_api.orders.repository import OrderFilter, OrderReader
from shopstream_api.orders.schemas import read_no_members, read_order, read_refund
from shopstream_api.orders.service import OrderSteps
from shopstream_api.orders.transitions import TRANSITIONS
from shopstream_api.preconditions import none_match
from shopstream_api.stock.errors import InsufficientStock
from shopstream_api.web.body import read_json
from shopstream_api.web.openapi import PAGED, Handler, Operation, routes
from shopstream_api.web.query import Query, page_body
from shopstream_api.web.respond import execute, json_answer, path_id, principal_of, shown
from shopstream_shared.clock import format_time
from shopstream_shared.events.codec import encode_payload
from shopstream_shared.events.payloads import OrderStatus

_ACTIONS: Final[tuple[tuple[str, OrderStatus], ...]] = (
    ("confirm", "confirmed"),
    ("pay", "paid"),
    ("ship", "shipped"),
    ("deliver", "delivered"),
)
_QUERY: Final = (*PAGED, "customerId", "sellerId", "status")
#: Where each step may lead, for the description's links.
_FOLLOWS: Final = {
    "confirm": ("payOrder", "cancelOrder"),
    "pay": ("shipOrder", "refundOrder"),
    "ship": ("deliverOrder", "refundOrder"),
    "deliver": ("refundOrder",),
}


class OrderRoutes:
    """Handlers over one database."""

    def __init__(self, database: Database, place: PlaceOrders, steps: OrderSteps) -> None:
        self._database = database
        self._place = place
        self._steps = steps

    async def create(self, request: Request) -> Response:
        principal_of(request)
        body = await read_json(request)
        command = read_order(body)

        async def work(tx: Transaction) -> Answer:
            row = await self._place(tx, command)
            return _order(row, 201, {"location": f"{request.scope['path']}/{row.id}"})

        return await execute(request, self._database, work, body=body, keyed=True)

    async def get(self, request: Request) -> Response:
        row, position = await self._found(request)
        if none_match(request.headers.get("if-none-match"), row.etag):
            return shown(Answer(304, {"etag": row.etag}, b""), position)
        return shown(_order(row), position)

    async def page(self, request: Request) -> Response:
        query = Query(request)
        wanted = OrderFilter(
            customer_id=query.text("customerId"),
            seller_id=query.text("sellerId"),
            status=query.one_of("status", tuple(TRANSITIONS)),
            owner=principal_of(request).seller_id,
        )
        paging = query.paging("orders", wanted)
        async with self._database.reading() as connection:
            page, position = await OrderReader(connection).page(wanted, paging)
        body = page_body(page, [row.shown() for row in page.items])
        return shown(json_answer(200, body), position)

    async def history(self, request: Request) -> Response:
        row, position = await self._found(request)
        async with self._database.reading() as connection:
            steps = await OrderReader(connection).history(row.id)
        data = [
            {"version": version, "status": status, "reason": reason, "at": format_time(at)}
            for version, status, reason, at in steps
        ]
        body = {"data": data, "hasMore": False, "nextCursor": None, "prevCursor": None}
        return shown(json_answer(200, body), position)

    async def transitions(self, request: Request) -> Response:
        return shown(json_answer(200, TRANSITIONS), None)

    async def cancel(self, request: Request) -> Response:
        principal = principal_of(request)

        async def step(tx: Transaction) -> OrderRow:
            return await self._steps.cancel(tx, principal, path_id(request, "order"))

        return await self._act(request, step)

    async def refund(self, request: Request) -> Response:
        principal, order_id = principal_of(request), path_id(request, "order")
        body = await read_json(request, empty={})
        refund = read_refund(body)

        async def work(tx: Transaction) -> Answer:
            return _order(await self._steps.refund(tx, principal, order_id, refund), 201)

        return await execute(request, self._database, work, body=body, key_required=True)

    def action(self, wanted: OrderStatus) -> Handler:
        """The handler of a plain step to ``wanted``."""

        async def handler(request: Request) -> Response:
            principal = principal_of(request)

            async def step(tx: Transaction) -> OrderRow:
                order_id = path_id(request, "order")
                return await self._steps.advance(tx, principal, order_id, wanted)

            return await self._act(request, step)

        return handler

    async def _act(
        self, request: Request, step: Callable[[Transaction], Awaitable[OrderRow]]
    ) -> Response:
        body = await read_json(request, empty={})
        read_no_members(body)

        async def work(tx: Transaction) -> Answer:
            return _order(await step(tx))

        return await execute(request, self._database, work, body=body, keyed=True)

    async def _found(self, request: Request) -> tuple[OrderRow, str | None]:
        principal, order_id = principal_of(request), path_id(request, "order")
        async with self._database.reading() as connection:
            row, position = await OrderReader(connection).shown(order_id)
        if row is None:
            raise NotFound("There is no such order.")
        principal.require_owner(row.seller_id, "order")
        return row, position


def router(database: Database, place: PlaceOrders, steps: OrderSteps) -> APIRouter:
    """The routes of orders; the fixed paths come before the one with an id."""
    made = OrderRoutes(database, place, steps)
    create = Operation(
        "POST",
        "/orders",
        made.create,
        "placeOrder",
        "Place an order",
        body="NewOrder",
        answer="Order",
        status=201,
        key="optional",
        errors=(InsufficientStock, MixedSellers, MixedCurrencies, ProductNotAvailable),
    )
    actions: list[tuple[str, Handler]] = [("cancel", made.cancel)]
    actions += [(verb, made.action(status)) for verb, status in _ACTIONS]
    described = (_step(*action) for action in actions)
    return routes("orders", (create, *_reads(made), *described, _refund(made)))


def _reads(made: OrderRoutes) -> tuple[Operation, ...]:
    return (
        Operation(
            "GET",
            "/orders",
            made.page,
            "listOrders",
            "List orders, newest first",
            answer="OrderPage",
            query=_QUERY,
            seller=True,
        ),
        Operation(
            "GET",
            "/orders/transitions",
            made.transitions,
            "listOrderTransitions",
            "Read what an order can become",
            answer="Transitions",
        ),
        Operation(
            "GET",
            "/orders/{id}",
            made.get,
            "getOrder",
            "Read an order",
            answer="Order",
            condition="If-None-Match",
            seller=True,
        ),
        Operation(
            "GET",
            "/orders/{id}/history",
            made.history,
            "getOrderHistory",
            "Read an order's steps",
            answer="OrderHistory",
            seller=True,
        ),
    )


def _step(verb: str, handler: Handler) -> Operation:
    return Operation(
        "POST",
        f"/orders/{{id}}/{verb}",
        handler,
        f"{verb}Order",
        f"{verb.capitalize()} an order",
        body="Nothing",
        body_optional=True,
        answer="Order",
        key="optional",
        errors=(IllegalTransition,),
        follows=_FOLLOWS.get(verb, ()),
    )


def _refund(made: OrderRoutes) -> Operation:
    return Operation(
        "POST",
        "/orders/{id}/refunds",
        made.refund,
        "refundOrder",
        "Give back a part of what was paid, or all that is left",
        body="Refund",
        body_optional=True,
        answer="Order",
        status=201,
        key="required",
        errors=(IllegalTransition, RefundTooLarge),
    )


def _order(row: OrderRow, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return json_answer(status, encode_payload(row.shown()), {"etag": row.etag, **(headers or {})})
