"""The requests that come most, dispatched before the framework's routing.

The framework tries its routes one after the other and solves dependencies that these handlers do
not have: several times the cost of the handlers themselves (ADR 0007). The same handlers stay
registered as routes: these describe them, and serve whatever is not exactly one of the hot paths.
"""

from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from shopstream_api.errors import ShopError
from shopstream_api.web.handlers import render
from shopstream_api.web.operations import Operation

_ID: Final = "{id}"
#: Ids are UUIDs; what has another length is for the router to refuse.
_ID_LENGTH: Final = 36


class HotPaths:
    """ASGI middleware, the innermost; ``operations`` have a plain path, or one id at its end."""

    def __init__(
        self, app: ASGIApp, *, operations: Sequence[Operation], prefixes: Sequence[str]
    ) -> None:
        self._app = app
        self._plain: dict[tuple[str, str], Operation] = {}
        self._by_id: dict[tuple[str, str], Operation] = {}
        for operation in operations:
            for prefix in prefixes:
                path = prefix + operation.path
                table = self._by_id if path.endswith(_ID) else self._plain
                table[operation.method, path.removesuffix(_ID)] = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._found(scope) if scope["type"] == "http" else None
        if operation is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = operation
        request = Request(scope, receive)
        try:
            response = await operation.handler(request)
        except ShopError as error:
            response = render(request, error)
        await response(scope, receive, send)

    def _found(self, scope: Scope) -> Operation | None:
        method, path = scope["method"], scope["path"]
        operation = self._plain.get((method, path))
        if operation is None:
            operation = self._by_id.get((method, path[:-_ID_LENGTH]))
            if operation is not None:
                scope["path_params"] = {"id": path[-_ID_LENGTH:]}
        return operation
