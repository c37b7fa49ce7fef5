"""Around every request: its ids, its size, its measure. Pure ASGI, so that nothing is buffered."""

import re
import time
from collections.abc import Mapping
from http import HTTPMethod
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shopstream_api.errors import ShopError
from shopstream_api.principal import RequestContext
from shopstream_api.web.errors import BodyTooLarge
from shopstream_api.web.problems import problem
from shopstream_api.web.respond import address_of, response_of
from shopstream_shared.clock import IdSource
from shopstream_shared.logs import get_logger

BODY_BYTES_MAX: Final = 1_048_576
#: Uploads that are read as they come, by routes that bound them themselves.
STREAMED: Final = ("/imports", "/api/v1/imports")
_REQUEST_ID: Final = re.compile(rb"[!-~]{1,200}")
#: Nothing after it: what a later version might add would travel, unbounded, with every event.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_METHODS: Final = frozenset(HTTPMethod)
_UNMATCHED: Final = "none"
#: No client sees it; what proxies log for one that went away.
_CLIENT_GONE: Final = 499

_log = get_logger(__name__)


class RequestMetrics:
    """Requests by route template, never by path: ids would make a series each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "shopstream_http_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "shopstream_http_request_seconds",
            "From the request's head to the end of its answer",
            ("method", "route"),
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )

        #: Finding a series by its labels costs more than counting; there are few of them.
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        found = scope.get("route")
        route: str = getattr(found, "path_format", getattr(found, "path", _UNMATCHED))
        # Anyone can invent a method's name; only known ones become labels.
        known = route != _UNMATCHED and scope["method"] in _METHODS
        method = scope["method"] if known else "any"
        series = self._series.get((method, route, status))
        if series is None:
            series = (
                self._requests.labels(method, route, str(status)),
                self._seconds.labels(method, route),
            )
            self._series[method, route, status] = series
        series[0].inc()
        series[1].observe(seconds)


class RequestMiddleware:
    """Gives the request its ids, bounds its body, and measures it."""

    def __init__(self, app: ASGIApp, *, ids: IdSource, metrics: RequestMetrics) -> None:
        self._app = app
        self._ids = ids
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Of a header sent twice the first one counts, as everywhere else.
        sent = dict(reversed(scope["headers"]))
        context = self._context(sent)
        scope.setdefault("state", {})["context"] = context
        # Nothing else is ever bound, so what a connection's last request left is overwritten.
        structlog.contextvars.bind_contextvars(
            request_id=context.request_id, correlation_id=context.correlation_id
        )
        ids = (
            (b"x-request-id", context.request_id.encode()),
            (b"x-correlation-id", (context.correlation_id or context.request_id).encode()),
        )
        started = time.monotonic()
        status = 0

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *ids]
            await send(message)

        try:
            await self._app(scope, _bounded(scope, sent, receive), answered)
        except ClientDisconnect:
            # Nobody is there to be answered, and it is no fault of ours.
            status = status or _CLIENT_GONE
        except Exception as error:
            if status:
                raise
            # Answered here and not by the framework's outermost layer, which would leave out the
            # ids and the CORS headers and then cut the connection.
            _log.exception("request failed", path=scope["path"], kind=type(error).__name__)
            await _fault_of_ours(address_of(scope), context)(scope, receive, answered)
        finally:
            self._metrics.observe(scope, status or 500, time.monotonic() - started)

    def _context(self, sent: Mapping[bytes, bytes]) -> RequestContext:
        request_id = _taken(sent.get(b"x-request-id")) or self._ids.new_id()
        traceparent = sent.get(b"traceparent", b"").decode("latin-1")
        return RequestContext(
            request_id=request_id,
            correlation_id=_taken(sent.get(b"x-correlation-id")) or request_id,
            traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else None,
        )


def _fault_of_ours(path: str, context: RequestContext) -> Response:
    error = ShopError("Something went wrong here; it was logged.")
    return response_of(problem(error, instance=path, request_id=context.request_id))


def _taken(sent: bytes | None) -> str | None:
    """The caller's id, if it can stand in a header, a log line and an event."""
    return sent.decode() if sent is not None and _REQUEST_ID.fullmatch(sent) else None


def _bounded(scope: Scope, sent: Mapping[bytes, bytes], receive: Receive) -> Receive:
    """Count the body as it comes, announced or chunked; raises BodyTooLarge where it is read."""
    if scope["path"] in STREAMED:
        return receive
    announced = sent.get(b"content-length", b"")
    too_large = announced.isdigit() and int(announced) > BODY_BYTES_MAX
    read = 0

    async def counted() -> Message:
        nonlocal read
        if too_large:
            raise BodyTooLarge(f"At most {BODY_BYTES_MAX} bytes are read.")
        message = await receive()
        read += len(message.get("body", b""))
        if read > BODY_BYTES_MAX:
            raise BodyTooLarge(f"At most {BODY_BYTES_MAX} bytes are read.")
        return message

    return counted
