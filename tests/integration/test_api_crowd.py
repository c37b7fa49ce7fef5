"""Many callers at once, doing anything to a few things: no fault of ours, and every rule holds.

What one caller sees is held against a model elsewhere; here only what must hold whatever the order:
the statuses that may be, and the invariants, looked at while the crowd is at work too.
"""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

from tests.support import invariants
from tests.support.app import InProcess, in_process, later
from tests.support.components import LocalComponents

from shopstream_shared.clock import ManualClock

CALLERS: Final = 12
REQUESTS_EACH: Final = 30
SEED: Final = 20_310_101
HOLD_SECONDS: Final = 60
#: All rules take a quarter of a second of a core; the crowd has work for some seconds.
LOOK_SECONDS: Final = 1.0
#: Done, or refused by a rule of the business; whatever else would be a fault.
EXPECTED: Final = {200, 201, 204, 404, 409, 412, 422}


class Caller:
    """Sends one request after the other, chosen by its own dice."""

    def __init__(self, app: InProcess, products: list[str], orders: list[str], seed: int) -> None:
        self._app = app
        self._products = products
        self._orders = orders
        self._name = seed
        self._dice = random.Random(seed)
        self.answers: Counter[int] = Counter()

    async def run(self) -> None:
        for number in range(REQUESTS_EACH):
            action = self._dice.choice(
                (self._order, self._order, self._step, self._step, self._stock, self._product)
            )
            await action(f"{self._name}-{number}")
            if self._dice.random() < 0.1:
                later(self._app, self._dice.choice((1, 20, HOLD_SECONDS)))
                await self._app.resources.expiry.sweep()

    async def _order(self, key: str) -> None:
        lines = [
            {"productId": self._dice.choice(self._products), "quantity": self._dice.randint(1, 3)}
            for _ in range(self._dice.randint(1, 4))
        ]
        body = await self._send("POST", "/orders", {"items": lines}, key)
        if "items" in body and "id" in body:
            self._orders.append(body["id"])

    async def _step(self, key: str) -> None:
        if not self._orders:
            return
        order = self._dice.choice(self._orders[-10:])
        verb = self._dice.choice(("confirm", "pay", "ship", "deliver", "cancel", "refunds"))
        body = {"amountMinor": self._dice.randint(1, 900)} if verb == "refunds" else {}
        await self._send("POST", f"/orders/{order}/{verb}", body, key)

    async def _stock(self, key: str) -> None:
        path = f"/products/{self._dice.choice(self._products)}"
        if self._dice.random() < 0.5:
            delta = {"delta": self._dice.choice((-3, 8)), "reason": "counted"}
            await self._send("POST", f"{path}/stock-adjustments", delta, key)
            return
        held = await self._send("POST", f"{path}/reservations", {"quantity": 1}, key)
        if "reservedUntil" in held and self._dice.random() < 0.7:
            await self._send("DELETE", f"/reservations/{held['id']}")

    async def _product(self, key: str) -> None:
        path = f"/products/{self._dice.choice(self._products)}"
        change = {"name": f"Cup {key}", "price": self._dice.randint(1, 9)}
        await self._send("PATCH", path, change, key)
        await self._send("POST", "/products", {**change, "sku": key[-1], "sellerId": "s1"})

    async def _send(
        self, method: str, path: str, body: object = None, key: str | None = None
    ) -> dict[str, Any]:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = await self._app.client.request(method, path, json=body, headers=headers)
        self.answers[answer.status_code] += 1
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found


def test_a_crowd_breaks_no_rule(session_components: LocalComponents) -> None:
    with in_process(
        session_components,
        clock=ManualClock(datetime(2031, 1, 1, tzinfo=UTC)),
        SHOPSTREAM_EXPIRY_SECONDS="0",
        SHOPSTREAM_RESERVATION_SECONDS=str(HOLD_SECONDS),
    ) as app:
        products = [app.product(sellerId="s1", stock=30)["id"] for _ in range(4)]
        orders: list[str] = []
        callers = [Caller(app, products, orders, SEED + number) for number in range(CALLERS)]
        seen: list[str] = []

        async def scene() -> None:
            crowd = asyncio.gather(*(caller.run() for caller in callers))
            while not crowd.done():
                seen.extend(await asyncio.to_thread(invariants.holds, app.database_url))
                await asyncio.wait({crowd}, timeout=LOOK_SECONDS)
            await crowd

        app.run(scene)

    answers = sum((caller.answers for caller in callers), Counter())
    assert seen == []
    assert answers.keys() <= EXPECTED, answers
    assert {200, 201, 409} <= answers.keys()
