"""Reads the analytics' read API and the products' present state."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import httpx

from shopstream_stack.demo.tally import added, normal

PAGE_LIMIT: Final = 500
#: More pages than a demo can fill: a cursor that never ends must not hang the reader.
PAGES_MAX: Final = 1_000
_OK: Final = 200
_GONE: Final = 404


class ReadApi:
    """The HTTP reads, each of which raises httpx.HTTPError when there is no good answer."""

    def __init__(self, client: httpx.AsyncClient, analytics: str, api: str) -> None:
        self._client = client
        self._analytics = analytics
        self._api = api

    async def totals(self, kind: str, names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """Totals by seller or product (``kind`` is ``sellers`` or ``products``).

        Hours and days must add up to the totals; where they do not, the totals carry the
        difference under a name no oracle knows, so that the comparison fails and shows it.
        """
        return {name: await self._totals(kind, name) for name in names}

    async def _totals(self, kind: str, name: str) -> Mapping[str, Any]:
        totals: dict[str, Any] = {}
        for granularity in ("hour", "day"):
            answer = await self._get(
                f"{self._analytics}/aggregates/{kind}/{name}", {"granularity": granularity}
            )
            totals = normal(answer["totals"])
            if (sums := added(answer["buckets"])) != totals:
                return {**totals, f"sum of {granularity}s": sums}
        return totals

    async def selling(self, sellers: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """What the routes of funnel and order values say in total, by seller."""
        found: dict[str, Mapping[str, Any]] = {}
        for seller in sellers:
            own = f"{self._analytics}/aggregates/sellers/{seller}"
            funnel = await self._get(f"{own}/funnel", {})
            values = await self._get(f"{own}/order-values", {})
            reached = funnel["totals"]["orders"]
            found[seller] = {
                "funnel": {state: count for state, count in reached.items() if count},
                "orderValues": values["totals"]["currencies"],
            }
        return found

    async def type_counts(self) -> Counter[str]:
        """How many events of each type the whole system has counted so far."""
        answer = await self._get(f"{self._analytics}/aggregates/event-types", {})
        return Counter(answer["totals"]["byType"])

    async def listed(self, sellers: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Event ids that GET /events/recent lists, newest first, by seller."""
        return {seller: tuple([entry async for entry in self._ids(seller)]) for seller in sellers}

    async def _ids(self, seller: str) -> Any:
        query: dict[str, str | int] = {"sellerId": seller, "limit": PAGE_LIMIT}
        for _ in range(PAGES_MAX):
            page = await self._get(f"{self._analytics}/events/recent", query)
            for item in page["data"]:
                yield item["eventId"]
            if not page["hasMore"]:
                return
            query["cursor"] = page["nextCursor"]

    async def stocks(self, products: Iterable[str]) -> dict[str, int | None]:
        """What each product's page says is in stock, None where there is no such page."""
        found: dict[str, int | None] = {}
        for product in products:
            answer = await self._client.get(f"{self._api}/products/{product}")
            if answer.status_code == _GONE:
                found[product] = None
            elif answer.status_code == _OK:
                found[product] = int(answer.json()["stock"])
        return found

    async def _get(self, url: str, query: Mapping[str, str | int]) -> dict[str, Any]:
        answer = await self._client.get(url, params=query)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body
