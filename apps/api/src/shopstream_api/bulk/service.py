"""Create the products of a bulk request, inside the caller's transaction."""

import asyncio
from collections.abc import Sequence

from shopstream_api.bulk.errors import RowsRefused
from shopstream_api.bulk.schemas import BulkRequest
from shopstream_api.catalog import batch, service
from shopstream_api.catalog.batch import Draft
from shopstream_api.catalog.errors import DuplicateSku
from shopstream_api.catalog.many import ROWS_A_BREATH
from shopstream_api.catalog.schemas import NewProduct
from shopstream_api.db.transaction import Transaction
from shopstream_api.errors import Fault, ShopError
from shopstream_api.principal import Principal

Result = Draft | ShopError


async def create(tx: Transaction, principal: Principal, request: BulkRequest) -> list[Result]:
    """What became of each row, in their order: of two with one sku the first is created.

    Raises RowsRefused when the request is atomic and a sku is taken.
    """
    results: list[Result] = []
    for n, item in enumerate(request.items, 1):
        if n % ROWS_A_BREATH == 0:
            await asyncio.sleep(0)
        results.append(service.draft(tx, principal, item) if isinstance(item, NewProduct) else item)
    drafts = [result for result in results if isinstance(result, Draft)]
    if not drafts:
        return results
    taken = await batch.create(tx.statements, drafts)
    tx.retract({str(product_id) for product_id in taken})
    tx.written()
    results = [
        DuplicateSku() if isinstance(result, Draft) and result.row.id in taken else result
        for result in results
    ]
    if request.atomic and taken:
        raise RowsRefused(_named(results))
    return results


def _named(results: Sequence[Result]) -> list[Fault]:
    return [
        Fault(f"/items/{index}/sku", "duplicate_sku", result.detail)
        for index, result in enumerate(results)
        if isinstance(result, DuplicateSku)
    ]
