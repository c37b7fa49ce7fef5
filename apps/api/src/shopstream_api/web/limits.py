"""How often a caller may ask: a token bucket for each, in this process.

A bucket holds a minute's requests and refills evenly, so that a caller at rest may burst and one
that never stops gets an even share. Headers as in draft-ietf-httpapi-ratelimit-headers.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shopstream_api.members import SELLER_ID
from shopstream_api.web.errors import RateLimited
from shopstream_api.web.handlers import render

WINDOW_SECONDS: Final = 60
#: Callers remembered at a time; the one that asked longest ago makes room, and starts full again.
BUCKETS_MAX: Final = 10_000
#: Each import is worth thousands of requests.
IMPORTS_PER_MINUTE: Final = 10
#: Asked by those who watch the service, not by callers.
_UNCOUNTED: Final = ("/health", "/metrics")


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(frozen=True, slots=True)
class Taken:
    """The outcome of one request: whether it may pass, what is left, and the waits in seconds."""

    allowed: bool
    left: int
    whole_seconds: int
    retry_seconds: int


class Buckets:
    """One policy: ``quota`` requests a minute for each caller."""

    def __init__(
        self, quota: int, *, now: Callable[[], float] = time.monotonic, bound: int = BUCKETS_MAX
    ) -> None:
        self.quota = quota
        self._now = now
        self._bound = bound
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> Taken:
        """One request of this caller."""
        now, rate = self._now(), self.quota / WINDOW_SECONDS
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self.quota, now)
            if len(self._buckets) > self._bound:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        bucket.tokens = min(self.quota, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        allowed = bucket.tokens >= 1
        if allowed:
            bucket.tokens -= 1
        return Taken(
            allowed,
            left=int(bucket.tokens),
            whole_seconds=math.ceil((self.quota - bucket.tokens) / rate),
            retry_seconds=0 if allowed else math.ceil((1 - bucket.tokens) / rate),
        )


class RateLimits:
    """ASGI middleware; not in the chain at all where nothing is limited."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        per_minute: int,
        imports: Collection[str],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._default = Buckets(per_minute, now=now)
        self._imports = Buckets(min(per_minute, IMPORTS_PER_MINUTE), now=now)
        self._import_paths: Final = frozenset(imports)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix("/api/v1")
        if scope["type"] != "http" or path.startswith(_UNCOUNTED):
            await self._app(scope, receive, send)
            return
        name, buckets = "default", self._default
        if scope["path"] in self._import_paths:
            name, buckets = "imports", self._imports
        taken = buckets.take(_caller(scope))
        told = (
            (b"ratelimit-policy", f'"{name}";q={buckets.quota};w={WINDOW_SECONDS}'.encode()),
            (b"ratelimit", f'"{name}";r={taken.left};t={taken.whole_seconds}'.encode()),
        )

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *told]
            await send(message)

        if taken.allowed:
            await self._app(scope, receive, telling)
            return
        error = RateLimited(f"More than {buckets.quota} requests a minute.")
        response = render(Request(scope), error)
        response.headers["retry-after"] = str(taken.retry_seconds)
        await response(scope, receive, telling)


def _caller(scope: Scope) -> str:
    """The principal, else the address; told apart, since a seller may be named like an address."""
    for name, value in scope["headers"]:
        if name == b"x-seller-id":
            seller = value.decode("latin-1")
            return f"seller {seller}" if SELLER_ID.fullmatch(seller) else _address(scope)
    return _address(scope)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return f"address {client[0] if client else 'unknown'}"
