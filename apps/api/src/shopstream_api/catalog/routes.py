"""The product routes."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shopstream_api.catalog import service
from shopstream_api.catalog.models import ProductRow
from shopstream_api.catalog.repository import ProductFilter, ProductRepository
from shopstream_api.catalog.schemas import STATUSES, read_new, read_patch, read_replacement
from shopstream_api.db.transaction import Database, Transaction
from shopstream_api.errors import NotFound, VersionRequired
from shopstream_api.idempotency.repository import Answer
from shopstream_api.preconditions import none_match
from shopstream_api.web.body import JSON, MERGE_PATCH, read_json
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


class ProductRoutes:
    """Handlers over one database."""

    def __init__(self, database: Database, *, require_if_match: bool) -> None:
        self._database = database
        self._require_if_match = require_if_match

    async def create(self, request: Request) -> Response:
        principal = principal_of(request)
        body = await read_json(request)
        new = read_new(body, principal.seller_id)

        async def work(tx: Transaction) -> Answer:
            row = await service.create(tx, principal, new)
            location = f"{request.url.path}/{row.id}"
            return _product(row, 201, {"location": location})

        # The caller's own scope comes first, or a refused stranger could use up a seller's key.
        caller = principal.seller_id or new.seller_id
        return await execute(request, self._database, work, body=body, keyed=True, caller=caller)

    async def get(self, request: Request) -> Response:
        product_id = path_id(request, "product")
        async with self._database.reading() as connection:
            row, position = await ProductRepository(connection).shown(product_id)
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
            words=tuple((query.text("q") or "").split()),
        )
        paging = query.paging("products", wanted)
        async with self._database.reading() as connection:
            page, position = await ProductRepository(connection).page(wanted, paging)
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


def router(database: Database, *, require_if_match: bool) -> APIRouter:
    """The routes of the catalog."""
    made = ProductRoutes(database, require_if_match=require_if_match)
    return routes("products", (*_reads(made), *_writes(made)))


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
        ),
        Operation(
            "PUT",
            _ONE,
            made.put,
            "replaceProduct",
            "Replace a product",
            body="NewProduct",
            answer="Product",
            condition="If-Match",
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


def _product(row: ProductRow, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return json_answer(status, encode_payload(row.shown()), {"etag": row.etag, **(headers or {})})
