"""The demo's own driver and judgement, aimed at a test's system."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.support.system import LocalSystem

from shopstream_shared.clock import SystemClock
from shopstream_stack.console import Silent
from shopstream_stack.demo.crowd import until
from shopstream_stack.demo.evidence import WatcherReading
from shopstream_stack.demo.rest import Rest
from shopstream_stack.demo.run import Outcome, Plan, Session, conclude, session
from shopstream_stack.demo.target import Target

#: Modest: the suite shares its machine, and DynamoDB Local writes to disk.
WRITES_PER_SECOND = 20


@dataclass(slots=True)
class Shop:
    """One seller of a test, a session that watches all it does, and the verdict at the end."""

    plan: Plan
    session: Session
    seller: str
    products: list[str] = field(default_factory=list)
    step: int = 0

    @property
    def rest(self) -> Rest:
        return self.session.rest

    async def create(self, count: int = 1, *, stock: int = 1_000) -> None:
        for number in range(count):
            body = {
                "name": f"Product {number}",
                "price": Decimal("10.00"),
                "stock": stock,
                "sellerId": self.seller,
            }
            answer = await self.rest.call("POST", "/products", body, wanted=201)
            assert answer.answer is not None, answer
            self.products.append(answer.answer["id"])

    async def write(self) -> None:
        """The next write of an endless, mixed load: prices, stock, orders, cancellations."""
        self.step += 1
        product = self.products[self.step % len(self.products)]
        kind = self.step % 4
        if kind == 0:
            await self._call("PATCH", f"/products/{product}", {"price": 10 + self.step}, 200)
        elif kind == 1:
            body = {"delta": 1, "reason": "found"}
            path = f"/products/{product}/stock-adjustments"
            await self._call("POST", path, body, 201, key=uuid.uuid4().hex)
        elif kind == 2:
            await self._order(product, 2)
        else:
            order = await self._order(product, 3)
            await self._call("POST", f"/orders/{order['id']}/cancel", {}, 200)

    async def load(self, stop: asyncio.Event) -> None:
        """Write at an even pace until told to stop."""
        while not stop.is_set():
            await self.write()
            await asyncio.sleep(1 / WRITES_PER_SECOND)

    @asynccontextmanager
    async def under_load(self) -> AsyncIterator[None]:
        """Load for the length of the block."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.load(stop))
            try:
                yield
            finally:
                stop.set()

    async def more_writes(self, count: int) -> None:
        """Wait until the load has made so many more writes."""
        wanted = self.step + count
        assert await until(lambda: self.step >= wanted, 60), f"{self.step} writes, not {wanted}"

    async def verdict(self) -> Outcome:
        """Wait for everything to arrive, read it all back, judge."""
        return await conclude(self.plan, self.session)

    async def assert_holds(self) -> Outcome:
        """The verdict must be good; the message names each fault."""
        outcome = await self.verdict()
        faults = {row.step: row.faults[:5] for row in outcome.rows if not row.holds}
        opens = {one.name: (one.opens, one.gaps) for one in self.session.crowd.readings}
        assert not faults, (faults, outcome.late, opens)
        return outcome

    async def _order(self, product: str, quantity: int) -> dict[str, Any]:
        items = [{"productId": product, "quantity": quantity}]
        return await self._call("POST", "/orders", {"items": items}, 201)

    async def _call(
        self, method: str, path: str, body: dict[str, Any], wanted: int, key: str | None = None
    ) -> dict[str, Any]:
        exchange = await self.rest.call(method, path, body, wanted=wanted, key=key)
        return dict(exchange.answer or {})


@asynccontextmanager
async def a_shop(
    system: LocalSystem, readings: Sequence[WatcherReading] = ()
) -> AsyncIterator[Shop]:
    """A seller of its own on the test's system, watched by these SSE clients."""
    run = f"test-{uuid.uuid4().hex[:12]}"
    plan = Plan(
        target=Target.local(system.settings),
        run=run,
        journals=system.settings.data / "journal",
        clock=SystemClock(),
        reporter=Silent(),
        curl=None,
    )
    async with session(plan, readings, [run]) as watched:
        yield Shop(plan, watched, run)
