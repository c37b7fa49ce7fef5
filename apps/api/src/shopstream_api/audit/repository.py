"""SQL of the audit trail."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.audit.models import AuditRow, audit_log
from shopstream_api.paging import Page, Paging, page_of

_ROWS: Final = select(*(audit_log.c[name] for name in AuditRow.__dataclass_fields__))


class AuditRepository:
    """The trail on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def page(self, sellers: Collection[str], paging: Paging) -> Page[AuditRow]:
        """One page, newest first, of rows of all of these sellers.

        By id alone, which is in the order of recording: the trail is written with every command,
        so it has no index by time.
        """
        ident = audit_log.c.id
        statement = _ROWS.where(*(audit_log.c.seller_id == seller for seller in sellers))
        if paging.after is not None:
            _, there = paging.after
            statement = statement.where(ident > there if paging.backwards else ident < there)
        statement = paging.shape.outer_order(statement, ident).limit(paging.limit + 1)
        rows = [AuditRow(*row) for row in await self._connection.execute(statement)]
        return page_of(rows, paging, lambda row: (row.at, row.id))
