"""A steady load of sellers and buyers, who hold on to a write until it is answered.

Each worker is one seller with one buyer, one request at a time. A write without an answer (no
connection, a time-out, 503) is sent again with its Idempotency-Key, to the other API process
first. Only answers of the 2xx kind are acknowledged writes in the journal; what was given up is
noted as unanswered. Answers that the contract does not foresee are kept as faults.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import httpx
import msgspec

from shopstream_stack.demo.oracle import Exchange
from shopstream_stack.demo.rest import read_json
from shopstream_stack.journal import Journal

#: Shorter than the API's own deadline: some requests are given up while the API still works.
REQUEST_SECONDS_MAX: Final = 5.0
#: A write is sent again for so long, then given up.
ANSWER_SECONDS_MAX: Final = 90.0
#: A process that did not answer is left alone for so long while another does, as a balancer would.
AVOID_SECONDS: Final = 1.0
PAUSE_SECONDS_FIRST: Final = 0.05
PAUSE_SECONDS_MAX: Final = 1.0
PRODUCTS_MAX: Final = 30
#: So few that an order's next step comes before it expires, mostly.
OPEN_ORDERS_MAX: Final = 6
FAULTS_KEPT_MAX: Final = 50

#: Refusals that a fair caller meets: stock runs out, orders expire, products go.
FAIR_REFUSALS: Final = frozenset(
    {"insufficient_stock", "illegal_transition", "version_mismatch", "product_not_available"}
)
_IN_FLIGHT: Final = "idempotency_key_in_flight"
_LATER: Final = frozenset({429, 503})
_SUCCESS: Final = range(200, 300)

_encoder: Final = msgspec.json.Encoder(decimal_format="number")


class Silence(Exception):
    """A write was given up without an answer; whether it happened is not known."""


@dataclass(slots=True)
class Caller:
    """Sends requests to any of the API processes, as a balancer's client would."""

    client: httpx.AsyncClient
    addresses: Sequence[str]
    journal: Journal
    acknowledged: int = 0
    refused: int = 0
    #: Sent again because no answer came, and given up for the same reason.
    repeated: int = 0
    given_up: int = 0
    #: Reads that got no answer, or were told to come later; none is repeated.
    unread: int = 0
    faults: list[str] = field(default_factory=list)
    _turn: Iterator[int] = field(default_factory=itertools.count)
    _avoided_until: dict[str, float] = field(default_factory=dict)

    async def read(self, path: str) -> Mapping[str, Any] | None:
        """One GET, not repeated: None when there is no good answer."""
        try:
            answer = await self._send("GET", path, None, None)
        except httpx.HTTPError:
            self.unread += 1
            return None
        if answer.status in _SUCCESS:
            return answer.answer
        if answer.status in _LATER:
            self.unread += 1
        else:
            self._fault(answer)  # what is read was acknowledged once: it has to be there
        return None

    async def write(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, keyed: bool = True
    ) -> Exchange:
        """One write until it is answered; without a key it is sent once.

        Raises Silence.
        """
        key = uuid.uuid4().hex if keyed else None
        end, pause = time.monotonic() + ANSWER_SECONDS_MAX, PAUSE_SECONDS_FIRST
        while True:
            try:
                exchange = await self._send(method, path, body, key)
            except httpx.HTTPError:
                exchange = None
            if exchange is not None and not _undecided(exchange):
                self._take(exchange)
                return exchange
            if key is None or time.monotonic() > end:
                self.given_up += 1
                self.journal.unanswered(method, path)
                raise Silence
            self.repeated += 1
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, key: str | None
    ) -> Exchange:
        address = self._address()
        headers = {"content-type": "application/json"} if body is not None else {}
        if key is not None:
            headers["idempotency-key"] = key
        content = None if body is None else _encoder.encode(body)
        try:
            response = await self.client.request(
                method, f"{address}{path}", content=content, headers=headers
            )
        except httpx.HTTPError:
            self._avoided_until[address] = time.monotonic() + AVOID_SECONDS
            raise
        return Exchange(
            method=method,
            path=path,
            status=response.status_code,
            request=body,
            answer=read_json(response.content),
            replayed=response.headers.get("idempotent-replayed") == "true",
        )

    def _address(self) -> str:
        """The next in turn of those that answer; of all when none does."""
        now = time.monotonic()
        good = [one for one in self.addresses if self._avoided_until.get(one, now) <= now]
        among = good or self.addresses
        return among[next(self._turn) % len(among)]

    def _take(self, exchange: Exchange) -> None:
        self.journal.write(exchange)
        if exchange.status in _SUCCESS:
            self.acknowledged += 1
            return
        self.refused += 1
        if (exchange.answer or {}).get("code") not in FAIR_REFUSALS:
            self._fault(exchange)

    def _fault(self, exchange: Exchange) -> None:
        code = (exchange.answer or {}).get("code")
        if len(self.faults) < FAULTS_KEPT_MAX:
            self.faults.append(f"{exchange.method} {exchange.path}: {exchange.status} {code}")


class Shop:
    """One seller and one buyer, who do the next thing by chance, of a seed of their own."""

    def __init__(self, caller: Caller, seller: str, random: Random) -> None:
        self._caller = caller
        self._seller = seller
        self._random = random
        self._products: list[str] = []
        self._orders: list[str] = []
        self._moves: Mapping[Callable[[], Any], int] = {
            self._create: 12,
            self._reprice: 20,
            self._adjust: 15,
            self._count: 5,
            self._order: 25,
            self._step: 30,
            self._delete: 1,
        }

    async def move(self) -> None:
        """One thing more, of one write (and seldom a read before it)."""
        chosen = self._random.choices(list(self._moves), list(self._moves.values()))[0]
        if not self._products:
            chosen = self._create
        try:
            await chosen()
        except Silence:
            return  # noted; the seller goes on with something else

    async def _create(self) -> None:
        number = self._random.randrange(10**6)
        body = {
            "name": f"Chaos {number}",
            "price": self._price(),
            "stock": self._random.choice((3, 20, 200, 5_000)),
            "sellerId": self._seller,
            "tags": ["chaos"],
        }
        answer = await self._caller.write("POST", "/products", body)
        if answer.status in _SUCCESS and answer.answer is not None:
            self._products.append(answer.answer["id"])
            del self._products[:-PRODUCTS_MAX]

    async def _reprice(self) -> None:
        path = f"/products/{self._product()}"
        await self._caller.write("PATCH", path, {"price": self._price()})

    async def _adjust(self) -> None:
        body = {"delta": self._random.choice((-3, 2, 10)), "reason": "counted"}
        path = f"/products/{self._product()}/stock-adjustments"
        await self._caller.write("POST", path, body)

    async def _count(self) -> None:
        product = self._product()
        seen = await self._caller.read(f"/products/{product}/inventory")
        if seen is not None:
            body = {"quantity": seen["stock"] + 4, "expectedQuantity": seen["stock"]}
            # It takes no key: what is not answered is not known.
            await self._caller.write("PUT", f"/products/{product}/stock", body, keyed=False)

    async def _order(self) -> None:
        count = self._random.randint(1, min(3, len(self._products)))
        chosen = self._random.sample(self._products, count)
        items = [{"productId": one, "quantity": self._random.randint(1, 4)} for one in chosen]
        body = {"customerId": f"{self._seller}-buyer", "items": items}
        answer = await self._caller.write("POST", "/orders", body)
        if answer.status in _SUCCESS and answer.answer is not None:
            self._orders.append(answer.answer["id"])
            del self._orders[:-OPEN_ORDERS_MAX]

    async def _step(self) -> None:
        """The next step of an order, most often the one that leads on."""
        if not self._orders:
            await self._order()
            return
        order = self._random.choice(self._orders)
        seen = await self._caller.read(f"/orders/{order}")
        ways = _WAYS.get((seen or {}).get("status", ""))
        if ways is None:
            self._orders.remove(order)  # it is over, or nobody can say
            return
        action = self._random.choice(ways)
        if action == "refunds":
            body = (
                {"amountMinor": 1, "reason": "scratched"} if self._random.random() < 1 / 2 else {}
            )
            await self._caller.write("POST", f"/orders/{order}/refunds", body)
        else:
            await self._caller.write("POST", f"/orders/{order}/{action}", {})

    async def _delete(self) -> None:
        product = self._product()
        self._products.remove(product)
        await self._caller.write("DELETE", f"/products/{product}", keyed=False)

    def _product(self) -> str:
        return self._random.choice(self._products)

    def _price(self) -> float:
        return self._random.randint(100, 99_999) / 100


#: What may be done with an order in a state; states that are not here are ends.
_WAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "pending": ("confirm", "confirm", "confirm", "cancel"),
    "confirmed": ("pay", "pay", "pay", "cancel"),
    "paid": ("ship", "ship", "ship", "refunds"),
    "shipped": ("deliver", "deliver", "refunds"),
    "delivered": ("refunds",),
}


async def keep_going(shop: Shop, stop: asyncio.Event, per_second: float) -> None:
    """Move at an even pace until told to stop; what a fault delays is not made up for."""
    while not stop.is_set():
        due = time.monotonic() + 1 / per_second
        await shop.move()
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def _undecided(exchange: Exchange) -> bool:
    """Whether the same request has to be sent again to learn what became of it."""
    return exchange.status in _LATER or (exchange.answer or {}).get("code") == _IN_FLIGHT
