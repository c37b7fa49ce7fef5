"""End one hold that is overdue, as its owner would have: the same steps, reason `expired`."""

from dataclasses import dataclass

from shopstream_api.db.transaction import Transaction
from shopstream_api.expiry.repository import ExpiryRepository, Hold
from shopstream_api.orders.service import OrderSteps
from shopstream_api.principal import Principal
from shopstream_api.stock.service import StockService


@dataclass(frozen=True, slots=True)
class ExpireHolds:
    """Each call is one hold in one transaction."""

    orders: OrderSteps
    stock: StockService

    async def __call__(self, tx: Transaction, hold: Hold) -> bool:
        """False when the hold is not overdue any more, or when another process is at it.

        It is claimed by a lock that is not waited for, on the row that everyone locks first: an
        order that is being paid at this moment is left alone, and looked at again later.
        """
        if not hold.is_order:
            return await self.stock.expire(tx, hold.id)
        if not await ExpiryRepository(await tx.connection()).claim_order(hold.id, tx.now()):
            return False
        await self.orders.cancel(tx, Principal(), hold.id, "expired")
        return True
