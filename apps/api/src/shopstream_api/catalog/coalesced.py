"""The two requests that come most, each for one product: many of them share a statement.

The plain ways, `service.create` and `ProductReader.shown`, say what the answers must be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shopstream_api.catalog import batch, service
from shopstream_api.catalog.batch import Draft
from shopstream_api.catalog.errors import DuplicateSku
from shopstream_api.catalog.models import ProductRow
from shopstream_api.catalog.repository import ProductReader, shown_together
from shopstream_api.catalog.schemas import NewProduct
from shopstream_api.db.coalesce import Coalescer
from shopstream_api.db.transaction import Database
from shopstream_api.principal import Principal, RequestContext

#: Statements under way at most; more than one only beside those that take long. ADR 0007.
CREATES_IN_FLIGHT_MAX: Final = 4
READS_IN_FLIGHT_MAX: Final = 4

Shown = tuple[ProductRow | None, str | None]


@dataclass(frozen=True, slots=True)
class Creation:
    """One request to create a product, and the product it would be."""

    context: RequestContext
    principal: Principal
    new: NewProduct
    draft: Draft


class CoalescedCatalog:
    """Creates and reads single products for concurrent requests."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._creates: Coalescer[Creation, Draft] = Coalescer(
            self._create_together, self._create_alone, in_flight_max=CREATES_IN_FLIGHT_MAX
        )
        self._reads: Coalescer[UUID, Shown] = Coalescer(
            self._read_together, self._read_alone, in_flight_max=READS_IN_FLIGHT_MAX
        )

    async def create(self, context: RequestContext, principal: Principal, new: NewProduct) -> Draft:
        """The product, committed. Raises Forbidden, DuplicateSku, Unavailable."""
        draft = service.draft(self._database.record(context), principal, new)
        return await self._creates.submit(Creation(context, principal, new, draft))

    async def shown(self, product_id: UUID) -> Shown:
        """The product and the stream position of the same snapshot. Raises Unavailable."""
        return await self._reads.submit(product_id)

    async def _create_together(self, items: Sequence[Creation]) -> list[Draft | Exception]:
        drafts = [item.draft for item in items]

        refused = await self._database.direct(lambda wire: batch.create(wire, drafts))
        if len(refused) < len(drafts):
            self._database.committed()
        if not refused:
            return list(drafts)
        return [DuplicateSku() if draft.row.id in refused else draft for draft in drafts]

    async def _create_alone(self, item: Creation) -> Draft:
        return await self._database.run(
            item.context, lambda tx: service.create(tx, item.principal, item.new)
        )

    async def _read_together(self, ids: Sequence[UUID]) -> list[Shown | Exception]:
        found, position = await self._database.direct(lambda wire: shown_together(wire, ids))
        return [(found.get(product_id), position) for product_id in ids]

    async def _read_alone(self, product_id: UUID) -> Shown:
        async with self._database.reading() as connection:
            return await ProductReader(connection).shown(product_id)
