"""CORS, without its cost for callers that are no web page."""

from typing import Any, Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import Message, Receive, Scope, Send

_VARY: Final = (b"vary", b"Origin")


class Cors(CORSMiddleware):
    """Starlette's; a request without Origin gets the one header it would get there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or b"origin" in dict(scope["headers"]):
            await super().__call__(scope, receive, send)
            return

        async def varied(message: Message) -> Any:
            if message["type"] == "http.response.start":
                message["headers"].append(_VARY)
            await send(message)

        await self.app(scope, receive, varied)
