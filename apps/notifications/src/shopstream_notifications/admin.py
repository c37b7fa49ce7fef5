"""``/admin/clients``: who is connected, how far behind, and the means to end a stream.

Always guarded by a token, in open mode too: a page that a developer visits could otherwise close
streams by a request to localhost. Without a token in the settings there are no such routes.
"""

import hmac
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, get_args

import msgspec
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shopstream_notifications.client import Policy
from shopstream_notifications.gate import QUERY_REFUSED, TOKEN_PARAMETERS
from shopstream_notifications.peers import Peers, SilentPeer
from shopstream_notifications.roster import Wanted
from shopstream_notifications.routes import problem
from shopstream_notifications.view import STATES
from shopstream_shared.clock import IdSource
from shopstream_shared.events.registry import EVENT_TYPES

PATH: Final = "/admin/clients"
LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 500

_BEARER: Final = "bearer"
#: (worker, number): its order is that of the pages.
_ID: Final = re.compile(r"([0-9]{1,10})-([0-9]{1,18})", re.ASCII)
_UNAUTHENTICATED: Final = 401

Handler = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """The request is answered with a problem."""

    def __init__(self, status: int, detail: str, parameter: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.parameter = parameter


class Admin:
    """The routes, for whoever knows the token."""

    def __init__(self, peers: Peers, token: SecretStr, ids: IdSource) -> None:
        self._peers = peers
        self._token = token.get_secret_value().encode()
        self._ids = ids

    def routes(self) -> list[Route]:
        """For the application of the other paths."""
        return [
            Route(PATH, self._guarded(self._list), methods=["GET"]),
            Route(f"{PATH}/{{id}}", self._guarded(self._kick), methods=["DELETE"]),
        ]

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                self._check(request)
                return await handler(request)
            except _Refused as error:
                return self._problem(request, error)

        return guarded

    def _check(self, request: Request) -> None:
        for name in TOKEN_PARAMETERS:
            if name in request.query_params:
                raise _Refused(400, QUERY_REFUSED, name)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Latin-1 as it came: compared as bytes, in a time that says nothing of the token.
        right = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        if scheme.lower() != _BEARER or not right:
            raise _Refused(_UNAUTHENTICATED, "send the token as Authorization: Bearer …")

    async def _list(self, request: Request) -> Response:
        """Worker by worker, in each from its oldest stream on."""
        wanted = _wanted(request)
        begin, number = _cursor(request)
        rows: list[dict[str, Any]] = []
        silent: list[int] = []
        after: str | None = None
        for worker in (worker for worker in self._peers.workers() if worker >= begin):
            first = number if worker == begin else 0
            rest = msgspec.structs.replace(wanted, after=first, limit=wanted.limit - len(rows))
            try:
                page = await self._peers.page(worker, rest)
            except SilentPeer:
                silent.append(worker)
                continue
            rows += page.rows
            # With nothing left to take, the next worker still says whether it has any.
            if page.more:
                after = f"{worker}-{page.last}"
                break
        return JSONResponse(
            {
                "data": rows,
                "hasMore": after is not None,
                "nextCursor": after,
                "silentWorkers": silent,
            },
            headers={"cache-control": "no-store"},
        )

    async def _kick(self, request: Request) -> Response:
        found = _ID.fullmatch(request.path_params["id"])
        if found is None or int(found[1]) not in self._peers.workers():
            raise _Refused(404, "no open stream has that id")
        try:
            ended = await self._peers.end(int(found[1]), int(found[2]))
        except SilentPeer:
            raise _Refused(503, "the worker that has this stream does not answer") from None
        if not ended:
            raise _Refused(404, "no open stream has that id")
        return Response(status_code=204)

    def _problem(self, request: Request, error: _Refused) -> Response:
        body, headers = problem(
            error.status,
            detail=str(error),
            instance=request.url.path,
            request_id=self._ids.new_id(),
            parameter=error.parameter,
        )
        named = {name.decode(): value.decode() for name, value in headers}
        if error.status == _UNAUTHENTICATED:
            named["www-authenticate"] = "Bearer"
        return Response(body, error.status, named)


def _wanted(request: Request) -> Wanted:
    query = request.query_params
    return Wanted(
        limit=_number(query.get("limit"), "limit", 1, LIMIT_MAX, LIMIT_DEFAULT),
        policy=_one_of(query.get("policy"), "policy", get_args(Policy)),
        state=_one_of(query.get("state"), "state", STATES),
        address=query.get("address"),
        principal=query.get("principal"),
        seller_id=query.get("sellerId"),
        subject=query.get("subject"),
        type=_one_of(query.get("type"), "type", tuple(EVENT_TYPES)),
    )


def _cursor(request: Request) -> tuple[int, int]:
    """(worker, number) up to which the pages before have looked."""
    text = request.query_params.get("cursor")
    if text is None:
        return 0, 0
    found = _ID.fullmatch(text)
    if found is None:
        raise _Refused(400, "take nextCursor of the page before", "cursor")
    return int(found[1]), int(found[2])


def _number(text: str | None, name: str, least: int, most: int, default: int) -> int:
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)):
        number = int(text)
        if least <= number <= most:
            return number
    raise _Refused(400, f"a whole number from {least} to {most}", name)


def _one_of(text: str | None, name: str, allowed: tuple[str, ...]) -> str | None:
    if text is not None and text not in allowed:
        raise _Refused(400, f"one of {', '.join(allowed)}", name)
    return text
