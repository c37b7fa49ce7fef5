"""``/admin/clients``: who is connected, how far behind, and the means to end a stream.

Always guarded by a token, in open mode too: a page that a developer visits could otherwise close
streams by a request to localhost. Without a token in the settings there are no such routes.
"""

import hmac
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, get_args

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shopstream_notifications.client import Client, Policy
from shopstream_notifications.gate import QUERY_REFUSED, TOKEN_PARAMETERS
from shopstream_notifications.hub import Hub
from shopstream_notifications.pulse import Pulse
from shopstream_notifications.routes import problem
from shopstream_notifications.view import STATES, View, moment, view
from shopstream_shared.clock import IdSource

PATH: Final = "/admin/clients"
LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 500
#: So many clients are looked at for one page: a page may be short, but never holds up the loop.
SCAN_MAX: Final = 5_000

_BEARER: Final = "bearer"
#: The worker's own ids: a client of another worker of this port is not found here.
_WORKER: Final = str(os.getpid())

Handler = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """The request is answered with a problem."""

    def __init__(self, status: int, detail: str, parameter: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class _Asked:
    """None in a member means: any."""

    after: int
    limit: int
    policy: str | None
    state: str | None
    address: str | None
    principal: str | None
    seller_id: str | None
    subject: str | None
    type: str | None

    def matches(self, client: Client, seen: View) -> bool:
        place, wanted = client.place, client.filter
        return (
            self.policy in {None, client.policy}
            and self.state in {None, seen.state}
            and self.address in {None, place.address, place.network}
            and self.principal in {None, place.principal}
            and self.seller_id in {None, wanted.seller_id}
            and self.subject in {None, wanted.subject}
            and (self.type is None or wanted.types is None or self.type in wanted.types)
        )


class Admin:
    """The routes, for whoever knows the token."""

    def __init__(self, hub: Hub, pulse: Pulse, token: SecretStr, ids: IdSource) -> None:
        self._hub = hub
        self._pulse = pulse
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
            raise _Refused(401, "send the token as Authorization: Bearer …")

    async def _list(self, request: Request) -> Response:
        asked = _asked(request)
        rows: list[dict[str, object]] = []
        last, seen_all = asked.after, True
        later = (c for c in self._hub.clients.values() if c.number > asked.after)
        for client in islice(later, SCAN_MAX):
            if len(rows) == asked.limit:
                seen_all = False
                break
            last = client.number
            seen = view(self._hub, client)
            if asked.matches(client, seen):
                rows.append(_row(client, seen))
        has_more = not seen_all or next(later, None) is not None
        return JSONResponse(
            {"data": rows, "hasMore": has_more, "nextCursor": str(last) if has_more else None},
            headers={"cache-control": "no-store"},
        )

    async def _kick(self, request: Request) -> Response:
        worker, _, number = request.path_params["id"].partition("-")
        client = (
            self._hub.clients.get(int(number))
            if worker == _WORKER and number.isascii() and number.isdigit()
            else None
        )
        if client is None:
            raise _Refused(404, "no open stream of this process has that id")
        self._pulse.say_goodbye(client, "kicked")
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
        if error.status == 401:  # noqa: PLR2004 - the status that asks for credentials (RFC 9110)
            named["www-authenticate"] = "Bearer"
        return Response(body, error.status, named)


def _asked(request: Request) -> _Asked:
    query = request.query_params
    return _Asked(
        after=_number(query.get("cursor"), "cursor", 0, 2**63, 0),
        limit=_number(query.get("limit"), "limit", 1, LIMIT_MAX, LIMIT_DEFAULT),
        policy=_one_of(query.get("policy"), "policy", get_args(Policy)),
        state=_one_of(query.get("state"), "state", STATES),
        address=query.get("address"),
        principal=query.get("principal"),
        seller_id=query.get("sellerId"),
        subject=query.get("subject"),
        type=query.get("type"),
    )


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


def _row(client: Client, seen: View) -> dict[str, object]:
    return {
        "id": f"{_WORKER}-{client.number}",
        "address": client.place.address,
        "principal": client.place.principal or None,
        "filter": _query(client),
        "policy": client.policy,
        "state": seen.state,
        "lagRecords": seen.lag_records,
        "bytesWaiting": seen.bytes_waiting,
        "since": moment(client.since),
    }


def _query(client: Client) -> dict[str, list[str]]:
    """The filter as the query that asks for it."""
    query: dict[str, list[str]] = {}
    for name, text in client.filter.parameters():
        query.setdefault(name, []).append(text)
    return query
