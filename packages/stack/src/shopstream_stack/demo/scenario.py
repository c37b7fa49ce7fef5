"""What the demo's sellers and buyers do: a fixed story, told to each seller's own products.

Every write says which status it must get. The three sellers act at the same time, each one step
by step, because the oracle needs the order of the commands that touch one product.
"""

import asyncio
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from shopstream_stack.demo.oracle import Exchange
from shopstream_stack.demo.rest import Rest

#: A paced phase after the story: the rate at which the latency is taken.
STEADY_SECONDS: Final = 6
STEADY_WRITES_PER_SECOND: Final = 20
_NOBODY: Final = "00000000-0000-7000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Seller:
    """A seller of this run. ``unit`` is a price of 1 in the currency, as small as it has."""

    id: str
    currency: str
    unit: Decimal


def sellers_of(run: str) -> list[Seller]:
    """Three sellers with names of their own, in currencies of two, two and no digits."""
    return [
        Seller(f"{run}-a", "USD", Decimal("0.01")),
        Seller(f"{run}-b", "EUR", Decimal("0.01")),
        Seller(f"{run}-c", "JPY", Decimal(1)),
    ]


class Story:
    """One seller's story."""

    def __init__(self, rest: Rest, seller: Seller) -> None:
        self._rest = rest
        self._seller = seller
        self._keys = 0
        self.product_ids: list[str] = []

    async def tell(self) -> None:
        """All of it: products, changes, stock, orders, refusals, a deletion."""
        mug, pen, lamp, rug = [
            await self._create(name, cents, stock)
            for name, cents, stock in (
                ("Mug", 1250, 12),
                ("Pen", 199, 40),
                ("Lamp", 8900, 6),
                ("Rug, handmade", 24_900, 3),
            )
        ]
        self.product_ids = [mug, pen, lamp]
        await self._change(mug, pen)
        await self._count_stock(pen, rug)
        await self._sell(mug, pen, lamp)
        await self._be_refused(mug)
        await self._rest.call("DELETE", f"/products/{rug}", wanted=204)
        await self._order({rug: 1}, wanted=422)

    async def reprice(self, product_id: str, step: int) -> None:
        """One paced write of the steady phase; each step is another price."""
        await self._patch(product_id, price=self._price(5_000 + step))

    async def _create(self, name: str, cents: int, stock: int) -> str:
        body = {
            "name": name,
            "price": self._price(cents),
            "currency": self._seller.currency,
            "stock": stock,
            "sellerId": self._seller.id,
            "tags": ["demo"],
        }
        answer = await self._rest.call("POST", "/products", body, wanted=201)
        return str((answer.answer or {}).get("id", _NOBODY))

    async def _change(self, mug: str, pen: str) -> None:
        await self._patch(mug, price=self._price(1_199))
        await self._patch(pen, name="Pen, blue", description="Writes.\nBlue.")
        # Says nothing new: 200, and no event.
        await self._patch(pen, name="Pen, blue")

    async def _count_stock(self, pen: str, rug: str) -> None:
        body = {"delta": -5, "reason": "damaged"}
        path = f"/products/{pen}/stock-adjustments"
        key = self._key()
        # The second is a retry of the first: the same answer, and no second event.
        for _ in range(2):
            await self._rest.call("POST", path, body, wanted=201, key=key)
        body = {"quantity": 9, "expectedQuantity": 3}
        await self._rest.call("PUT", f"/products/{rug}/stock", body, wanted=200)

    async def _sell(self, mug: str, pen: str, lamp: str) -> None:
        await self._order({mug: 4, pen: 3})
        await self._order({mug: 4})  # 4 left: low stock
        emptied = await self._order({lamp: 6})  # none left: out of stock
        order_id = str((emptied.answer or {}).get("id", _NOBODY))
        await self._rest.call("POST", f"/orders/{order_id}/cancel", {}, wanted=200)
        await self._order({lamp: 2})  # 4 left again: low stock
        twice = [{"productId": mug, "quantity": 1}, {"productId": mug, "quantity": 1}]
        await self._rest.call("POST", "/orders", {"items": twice}, wanted=201)

    async def _be_refused(self, mug: str) -> None:
        await self._order({mug: 999}, wanted=409)
        await self._order({_NOBODY: 1}, wanted=422)
        body = {"delta": -1_000, "reason": "wrong count"}
        path = f"/products/{mug}/stock-adjustments"
        await self._rest.call("POST", path, body, wanted=409, key=self._key())
        blank = {"name": " ", "price": 1, "sellerId": self._seller.id}
        await self._rest.call("POST", "/products", blank, wanted=422)
        await self._rest.call("POST", "/products", b'{"name":', wanted=400)

    async def _patch(self, product_id: str, **changes: Any) -> None:
        await self._rest.call("PATCH", f"/products/{product_id}", changes, wanted=200)

    async def _order(self, quantities: dict[str, int], wanted: int = 201) -> Exchange:
        items = [{"productId": name, "quantity": count} for name, count in quantities.items()]
        body = {"customerId": "demo-customer", "items": items}
        return await self._rest.call("POST", "/orders", body, wanted=wanted)

    def _price(self, smallest_units: int) -> Decimal:
        return smallest_units * self._seller.unit

    def _key(self) -> str:
        self._keys += 1
        return f"{self._seller.id}-{self._keys}"


async def tell_all(rest: Rest, sellers: list[Seller]) -> list[Story]:
    """Every seller's story at once. Raises httpx.HTTPError (in a group) without an answer."""
    stories = [Story(rest, seller) for seller in sellers]
    async with asyncio.TaskGroup() as tasks:
        for story in stories:
            tasks.create_task(story.tell())
    return stories


async def steady(stories: list[Story]) -> None:
    """Price changes at an even pace, one product after the other."""
    began = time.monotonic()
    for step in range(STEADY_SECONDS * STEADY_WRITES_PER_SECOND):
        due = began + step / STEADY_WRITES_PER_SECOND
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        story = stories[step % len(stories)]
        await story.reprice(story.product_ids[step % len(story.product_ids)], step)
