"""Who asks: the address, through proxies that are trusted, and the principal that is claimed."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

#: As the API has it: the header with which a caller in open mode names itself.
PRINCIPAL_HEADER: Final = "X-Seller-Id"
_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
#: An address as texts write it, at its longest (an IPv4 one mapped into IPv6): what a proxy hands
#: on is kept for as long as the stream lives.
ADDRESS_LENGTH_MAX: Final = 45


class Callers:
    """Knows which proxies may say for whom they ask; without any, the peer is the caller."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._proxies = (
            ProxyHeadersMiddleware(_nothing, list(trusted_proxies)) if trusted_proxies else None  # type: ignore[arg-type]  # uvicorn has ASGI types of its own
        )

    async def address(self, scope: Scope) -> str:
        """The caller's address. It ends before the stream begins, so no layer stays around it."""
        if self._proxies is not None:
            await self._proxies(scope, _no_receive, _no_send)  # type: ignore[arg-type]  # as above
        client = scope.get("client")
        return str(client[0])[:ADDRESS_LENGTH_MAX] if client else ""


def principal_of(headers: Mapping[bytes, bytes]) -> str:
    """Whom the caller claims to be, "" for nobody. Raises ValueError for what is no name."""
    given = headers.get(PRINCIPAL_HEADER.lower().encode())
    if given is None:
        return ""
    text = given.decode("latin-1")
    if not _PRINCIPAL.fullmatch(text):
        raise ValueError("must be 1-64 of A-Z a-z 0-9 . _ : -")
    return text


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """The middleware has changed the scope by now; that is all that is wanted of it."""


async def _no_receive() -> dict[str, object]:
    raise NotImplementedError


async def _no_send(_message: object) -> None:
    raise NotImplementedError
