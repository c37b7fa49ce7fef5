"""The route of the audit trail."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shopstream_api.audit.repository import AuditRepository
from shopstream_api.db.transaction import Database
from shopstream_api.web.openapi import PAGED, Operation, routes
from shopstream_api.web.query import Query, page_body
from shopstream_api.web.respond import json_answer, principal_of, response_of


class AuditRoutes:
    """Handlers over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, request: Request) -> Response:
        query = Query(request)
        own, wanted = principal_of(request).seller_id, query.text("sellerId")
        # Another seller's trail is empty for a caller that is a seller.
        sellers = sorted({seller for seller in (own, wanted) if seller is not None})
        paging = query.paging("audit", sellers)
        async with self._database.reading() as connection:
            page = await AuditRepository(connection).page(sellers, paging)
        body = page_body(page, [row.shown() for row in page.items])
        return response_of(json_answer(200, body))


def router(database: Database) -> APIRouter:
    """The routes of the audit trail."""
    made = AuditRoutes(database)
    return routes(
        "audit",
        (
            Operation(
                "GET",
                "/audit",
                made.page,
                "listAudit",
                "List what was done to what, and by which request, newest first",
                answer="AuditEntryPage",
                query=(*PAGED, "sellerId"),
                seller=True,
            ),
        ),
    )
