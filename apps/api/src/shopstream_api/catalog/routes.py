"""The product routes."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shopstream_api.catalog import quick, service
from shopstream_api.catalog.batch import Draft
from shopstream_api.catalog.coalesced import CoalescedCatalog
from shopstream_api.catalog.errors import DuplicateSku
from shopstream_api.catalog.filters import ProductFilter
from shopstream_api.catalog.models import ProductRow
from shopstream_api.catalog.ranking import ranked_page, ranked_paging
from shopstream_api.catalog.repository import ProductReader
from shopstream_api.catalog.schemas import STATUSES, read_new, read_patch, read_replacement
from shopstream_api.db.transaction import Database, Transaction
from shopstream_api.errors import Forbidden, NotFound, VersionRequired
from shopstream_api.idempotency.repository import Answer
from shopstream_api.preconditions import none_match
from shopstream_api.principal import Principal
from shopstream_api.web.body import JSON, MERGE_PATCH, read_bytes, read_from, read_json
from shopstream_api.web.openapi import PAGED, Operation, routes
from shopstream_api.web.query import Query, page_body
from shopstream_api.web.respond import (
    NO_CONTENT,
    context_of,
    execute,
    json_answer,
    path_id,
    principal_of,
    response_of,
    shown,
)
from shopstream_shared.events.codec import encode_payload

_QUERY: Final = (
    *PAGED,
    "sellerId",
    "status",
    "category",
    "priceMin",
    "priceMax",
    "updatedSince",
    "q",
)
_ONE: Final = "/products/{id}"
#: The description's link from a new product to an order of it.
_ORDER_IT: Final = {
    "operationId": "placeOrder",
    "requestBody": {"items": [{"productId": "$response.body#/id", "quantity": 1}]},
}


class ProductRoutes:
    """Handlers over one database."""

    def __init__(self, database: Database, *, require_if_match: bool) -> None:
        self._database = database
        self._coalesced = CoalescedCatalog(database)
        self._require_if_match = require_if_match

    async def create(self, request: Request) -> Response:
        """The product as it is now, its address in Location, its version in ETag."""
        principal = principal_of(request)
        # Key and product need one transaction; without a key the statement is shared.
        if "idempotency-key" in request.headers:
            return await self._create_keyed(request, principal)
        body, new = await read_bytes(request), None
        if request.headers.get("content-type") == JSON:
            new = quick.read_new(body, principal.seller_id)
        if new is None:
            new = read_new(read_from(body, request), principal.seller_id)
        made = await self._coalesced.create(context_of(request), principal, new)
        return response_of(_created(request, made))

    async def _create_keyed(self, request: Request, principal: Principal) -> Response:
        body = await read_json(request)
        new = read_new(body, principal.seller_id)

        async def work(tx: Transaction) -> Answer:
            return _created(request, await service.create(tx, principal, new))

        # The caller's own scope comes first, or a refused stranger could use up a seller's key.
        caller = principal.seller_id or new.seller_id
        return await execute(request, self._database, work, body=body, keyed=True, caller=caller)

    async def get(self, request: Request) -> Response:
        row, position = await self._coalesced.shown(path_id(request, "product"))
        if row is None:
            raise NotFound("There is no such product.")
        if none_match(request.headers.get("if-none-match"), row.etag):
            return shown(Answer(304, {"etag": row.etag}, b""), position)
        return shown(_product(row), position)

    async def page(self, request: Request) -> Response:
        query = Query(request)
        wanted = ProductFilter(
            seller_id=query.text("sellerId"),
            status=query.one_of("status", STATUSES),
            category=query.text("category"),
            price_min=query.decimal("priceMin"),
            price_max=query.decimal("priceMax"),
            updated_since=query.time("updatedSince"),
        )
        written = (query.text("q") or "").strip()
        if written:
            ranked = ranked_paging(query.limit(), query.cursor, (wanted, written))
            async with self._database.reading() as connection:
                page, position = await ranked_page(connection, wanted, written, ranked)
        else:
            paging = query.paging("products", wanted)
            async with self._database.reading() as connection:
                page, position = await ProductReader(connection).page(wanted, paging)
        body = page_body(page, [row.shown() for row in page.items])
        return shown(json_answer(200, body), position)

    async def patch(self, request: Request) -> Response:
        principal, product_id = principal_of(request), path_id(request, "product")
        body = await read_json(request, JSON, MERGE_PATCH)
        change = read_patch(body)
        match = request.headers.get("if-match")

        async def work(tx: Transaction) -> Answer:
            return _product(await service.patch(tx, principal, product_id, change, match))

        return await execute(request, self._database, work, body=body, keyed=True)

    async def put(self, request: Request) -> Response:
        principal, product_id = principal_of(request), path_id(request, "product")
        replacement = read_replacement(await read_json(request))
        match = request.headers.get("if-match")
        if match is None and self._require_if_match:
            raise VersionRequired("A PUT must say which version it replaces.")

        async def work(tx: Transaction) -> Answer:
            return _product(await service.put(tx, principal, product_id, replacement, match))

        return await execute(request, self._database, work)

    async def delete(self, request: Request) -> Response:
        principal, product_id = principal_of(request), path_id(request, "product")
        match = request.headers.get("if-match")

        async def work(tx: Transaction) -> Answer:
            await service.delete(tx, principal, product_id, match)
            return NO_CONTENT

        return await execute(request, self._database, work)


def router(made: ProductRoutes) -> APIRouter:
    """The routes of the catalog."""
    return routes("products", (*_reads(made), *_writes(made)))


def hot(made: ProductRoutes) -> list[Operation]:
    """Those that come most."""
    names = ("createProduct", "getProduct")
    return [row for row in (*_reads(made), *_writes(made)) if row.name in names]


def _reads(made: ProductRoutes) -> tuple[Operation, ...]:
    return (
        Operation(
            "GET",
            "/products",
            made.page,
            "listProducts",
            "List products, newest first",
            answer="ProductPage",
            query=_QUERY,
        ),
        Operation(
            "GET",
            _ONE,
            made.get,
            "getProduct",
            "Read a product",
            answer="Product",
            condition="If-None-Match",
        ),
    )


def _writes(made: ProductRoutes) -> tuple[Operation, ...]:
    return (
        Operation(
            "POST",
            "/products",
            made.create,
            "createProduct",
            "Create a product",
            body="NewProduct",
            answer="Product",
            status=201,
            key="optional",
            errors=(Forbidden, DuplicateSku),
            links={"placeOrder": _ORDER_IT},
        ),
        Operation(
            "PATCH",
            _ONE,
            made.patch,
            "patchProduct",
            "Change a product (merge patch)",
            body="ProductPatch",
            answer="Product",
            key="optional",
            condition="If-Match",
            errors=(Forbidden, DuplicateSku),
            body_types=(JSON, MERGE_PATCH),
        ),
        Operation(
            "PUT",
            _ONE,
            made.put,
            "replaceProduct",
            "Replace a product",
            body="ProductReplacement",
            answer="Product",
            condition="If-Match",
            errors=(Forbidden, DuplicateSku, VersionRequired),
        ),
        Operation(
            "DELETE",
            _ONE,
            made.delete,
            "deleteProduct",
            "Delete a product",
            status=204,
            condition="If-Match",
        ),
    )


def _created(request: Request, made: Draft) -> Answer:
    location = f"{request.scope['path']}/{made.event.subject}"
    return json_answer(201, made.body, {"etag": made.row.etag, "location": location})


def _product(row: ProductRow, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return json_answer(status, encode_payload(row.shown()), {"etag": row.etag, **(headers or {})})
