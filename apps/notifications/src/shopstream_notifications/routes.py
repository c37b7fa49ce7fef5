"""``/events/stream``: plain ASGI, because every layer between us and ``send`` is paid per client.

Measured: a response class costs four times the memory, one BaseHTTPMiddleware six times, of driving
``send`` directly.
"""

import random
import re
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Final, cast, get_args
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from shopstream_notifications import sse
from shopstream_notifications.caller import PRINCIPAL_HEADER, principal_of
from shopstream_notifications.client import Client, Policy
from shopstream_notifications.data_filters import PARAMETER
from shopstream_notifications.errors import BadFilter
from shopstream_notifications.filters import Filter, compile_filter
from shopstream_notifications.gate import (
    QUERY_REFUSED,
    TOKEN_PARAMETERS,
    Gate,
    connection_of,
)
from shopstream_notifications.hub import Hub
from shopstream_notifications.limits import Place
from shopstream_notifications.playback import Beginning, Playback, Since
from shopstream_notifications.protocol import SCOPE_KEY
from shopstream_notifications.pulse import Pulse
from shopstream_notifications.wire import Flow, Transport
from shopstream_shared.clock import IdSource, epoch_ms, parse_time

PATH: Final = "/events/stream"
ALLOW: Final = "GET, HEAD, OPTIONS"
QUERY_FIELDS_MAX: Final = 100
PREFLIGHT_SECONDS: Final = 86_400
#: Milliseconds of the year 9999: later moments are typing errors.
TIMESTAMP_MS_MAX: Final = 253_402_300_799_999
#: Milliseconds of March 1973, or seconds of the year 5138: below it somebody counts in seconds.
TIMESTAMP_MS_MIN: Final = 100_000_000_000

#: A given request id is echoed only as printable ASCII of a sane length.
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")
_POLICIES: Final = get_args(Policy)
_STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)

Headers = list[tuple[bytes, bytes]]


class BadParameter(ValueError):
    """A query parameter that is no filter has a wrong value."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(detail)
        self.parameter = parameter


class StreamEndpoint:
    """The ASGI application of the one path."""

    def __init__(
        self,
        hub: Hub,
        playback: Playback,
        pulse: Pulse,
        ids: IdSource,
        *,
        gate: Gate,
        cors_origins: Iterable[str],
    ) -> None:
        self._hub = hub
        self._playback = playback
        self._pulse = pulse
        self._ids = ids
        self._gate = gate
        self._cors_origins = frozenset(cors_origins)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Choose the coroutine that answers.

        Not one itself: its frame, with all that reading the request took, would stay in memory
        for as long as the stream is open.
        """
        headers = dict(scope["headers"])
        cors = self._cors(headers)
        method = scope["method"]
        if method == "OPTIONS" and b"access-control-request-method" in headers:
            return _answer(send, 204, [*cors, *_PREFLIGHT_HEADERS])
        if method not in {"GET", "HEAD"}:
            return self._problem(send, 405, scope, cors, detail=f"use {ALLOW}")
        try:
            asked = _parse(scope["query_string"], headers)
        except (BadFilter, BadParameter) as error:
            return self._problem(
                send, 400, scope, cors, detail=str(error), parameter=error.parameter
            )
        if method == "HEAD":
            return _answer(send, 200, [*_STREAM_HEADERS, *cors])
        return self._stream(scope, receive, send, asked, cors)

    async def _stream(
        self, scope: Scope, receive: Receive, send: Send, asked: "_Asked", cors: Headers
    ) -> None:
        connection = connection_of(scope)
        client = await self._open(scope, send, asked, cors)
        if client is None:
            return
        try:
            await self._playback.begin(client, asked.beginning)
            del asked, cors  # not for as long as the stream is open
            while (await receive())["type"] != "http.disconnect":
                pass  # a request body is of no interest
        finally:
            self._hub.leave(client, "dead" if connection.dead else "client")

    async def _open(
        self, scope: Scope, send: Send, asked: "_Asked", cors: Headers
    ) -> Client | None:
        """Send the first bytes and register the client; None for who is not let in."""
        start_headers = [*_STREAM_HEADERS, *cors]
        await send({"type": "http.response.start", "status": 200, "headers": start_headers})
        first = sse.preamble(random.SystemRandom().randint(*sse.RETRY_MS))
        await send({"type": "http.response.body", "body": first, "more_body": True})
        if self._hub.draining:
            # Never a 503: EventSource gives up for good on anything but 200.
            goodbye = self._pulse.goodbye()
            await send({"type": "http.response.body", "body": goodbye, "more_body": False})
            return None
        transport, flow = cast("tuple[Transport, Flow]", scope[SCOPE_KEY])
        if transport.is_closing():
            return None  # it left while the first bytes waited
        place = await self._gate.admit(scope, asked.principal)
        if not isinstance(place, Place):
            await send({"type": "http.response.body", "body": place, "more_body": False})
            transport.close()
            return None
        client = self._hub.join(transport, flow, asked.filter, asked.policy)
        client.place, client.since = place, self._hub.clock.now().timestamp()
        return client

    def _cors(self, headers: dict[bytes, bytes]) -> Headers:
        origin = headers.get(b"origin")
        if origin is None:
            return []
        expose = (b"access-control-expose-headers", b"x-request-id")
        if "*" in self._cors_origins:
            return [(b"access-control-allow-origin", b"*"), expose]
        vary = (b"vary", b"Origin")
        if origin.decode("latin-1") not in self._cors_origins:
            return [vary]
        return [(b"access-control-allow-origin", origin), expose, vary]

    async def _problem(
        self,
        send: Send,
        status: int,
        scope: Scope,
        headers: Headers,
        *,
        detail: str,
        parameter: str | None = None,
    ) -> None:
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        body, more = problem(
            status,
            detail=detail,
            instance=scope["path"],
            request_id=given if _REQUEST_ID.fullmatch(given) else self._ids.new_id(),
            parameter=parameter,
        )
        await _answer(send, status, [*headers, *more], body)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request's query and headers, read."""

    filter: Filter
    policy: Policy
    beginning: Beginning
    principal: str


_PREFLIGHT_HEADERS: Final = (
    (b"access-control-allow-methods", b"GET, HEAD"),
    (
        b"access-control-allow-headers",
        b"last-event-id, cache-control, x-request-id, x-seller-id, authorization",
    ),
    (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
)

_PROBLEMS: Final = {
    400: ("validation_failed", "The request is not valid"),
    401: ("unauthenticated", "Who asks is not known"),
    404: ("not_found", "There is nothing here"),
    405: ("method_not_allowed", "The method is not allowed here"),
    503: ("unavailable", "This cannot be answered now"),
}


def problem(
    status: int, *, detail: str, instance: str, request_id: str, parameter: str | None = None
) -> tuple[bytes, Headers]:
    """An RFC 9457 body with its headers, in the shape of the API's."""
    code, title = _PROBLEMS[status]
    errors = (
        [{"pointer": f"/{parameter}", "code": code, "detail": detail}]
        if parameter is not None
        else []
    )
    body = msgspec.json.encode(
        {
            "type": f"/problems/{code}",
            "title": title,
            "status": status,
            "detail": detail,
            "instance": instance,
            "code": code,
            "requestId": request_id,
            "errors": errors,
        }
    )
    headers: Headers = [
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
        (b"x-request-id", request_id.encode("ascii")),
    ]
    if code == "method_not_allowed":
        headers.append((b"allow", ALLOW.encode()))
    return body, headers


def _parse(query: bytes, headers: dict[bytes, bytes]) -> _Asked:
    """Raises BadFilter or BadParameter."""
    try:
        principal = principal_of(headers)
    except ValueError as error:
        raise BadParameter(PRINCIPAL_HEADER, str(error)) from None
    try:
        # Bytes that are not UTF-8 are kept: in an id they are a gap, elsewhere they are refused.
        text = query.decode("utf-8", "surrogateescape")
        fields = parse_qs(text, max_num_fields=QUERY_FIELDS_MAX, errors="surrogateescape")
    except ValueError:
        raise BadParameter("", f"the query has more than {QUERY_FIELDS_MAX} fields") from None
    for name in TOKEN_PARAMETERS:
        if name in fields:
            raise BadParameter(name, QUERY_REFUSED)
    wanted = compile_filter(
        ",".join(fields.get("types", ())),
        _text(fields, "sellerId"),
        _text(fields, "subject"),
        _on_data(fields),
    )
    policy = _text(fields, "policy") or "resume"
    if policy not in _POLICIES:
        raise BadParameter("policy", f"one of {', '.join(_POLICIES)}")
    since = _text(fields, "since")
    parsed = _since(since) if since else None
    last = headers.get(b"last-event-id", b"").decode("latin-1").strip()
    last = last or _single(fields, "lastEventId")
    beginning = Beginning(last, None if last else parsed)
    return _Asked(wanted, cast("Policy", policy), beginning, principal)


def _single(fields: dict[str, list[str]], name: str) -> str:
    values = fields.get(name, [""])
    if len(values) > 1:
        raise BadParameter(name, "given more than once")
    return values[0]


def _text(fields: dict[str, list[str]], name: str) -> str:
    return _utf8(name, _single(fields, name))


def _on_data(fields: dict[str, list[str]]) -> list[tuple[str, str]]:
    """All ``data.…`` parameters: one that comes more than once is as many predicates."""
    return [
        (_utf8("data", name), _utf8(name, text))
        for name, texts in fields.items()
        if name.startswith(PARAMETER)
        for text in texts
    ]


def _utf8(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadParameter(name, "not UTF-8") from None
    return text


def _since(text: str) -> Since:
    """RFC 3339 with an offset, or epoch milliseconds."""
    # A plus sign that was not escaped arrives as a space, which no such time has; the client is
    # told what it wrote.
    text = text.replace(" ", "+")
    if text.isascii() and text.isdigit():
        moment = int(text) if len(text) <= len(str(TIMESTAMP_MS_MAX)) else TIMESTAMP_MS_MAX + 1
        if 0 < moment < TIMESTAMP_MS_MIN:
            # Not refused, it would replay all that the broker keeps.
            raise BadParameter(
                "since", "these look like seconds; epoch milliseconds are expected (or 0: all)"
            )
    else:
        try:
            moment = epoch_ms(parse_time(text))
        except (ValueError, OverflowError):
            raise BadParameter(
                "since", "neither RFC 3339 with Z or an offset nor epoch milliseconds"
            ) from None
    if not 0 <= moment <= TIMESTAMP_MS_MAX:
        raise BadParameter("since", "out of range")
    return Since(text, moment)


async def _answer(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    if body:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
