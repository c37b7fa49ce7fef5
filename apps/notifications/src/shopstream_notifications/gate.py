"""Who is let in: the one question that a request for the stream is asked before it becomes one."""

import asyncio
from typing import Final, cast

from starlette.types import Scope

from shopstream_notifications.caller import Callers
from shopstream_notifications.limits import Limits, Place
from shopstream_notifications.protocol import SCOPE_KEY, StreamProtocol
from shopstream_notifications.refusal import Refusals
from shopstream_notifications.wire import Flow

#: What tokens are called in URLs, which end up in logs, histories and referrers (RFC 9700, 4.3.2).
TOKEN_PARAMETERS: Final = ("access_token", "token", "authorization")
QUERY_REFUSED: Final = "a token does not belong in a URL; send it as a header"


class Gate:
    """Holds the limits against the caller of a request."""

    def __init__(self, limits: Limits, callers: Callers, refusals: Refusals) -> None:
        self._limits = limits
        self._callers = callers
        self._refusals = refusals

    async def admit(self, scope: Scope, principal: str) -> Place | bytes:
        """A place for the stream, or the last bytes that it gets."""
        place = self._limits.seat(
            connection_of(scope), await self._callers.address(scope), principal
        )
        return place if isinstance(place, Place) else self._refusals.frame(place)


def connection_of(scope: Scope) -> StreamProtocol:
    """The socket that a request came by."""
    transport, _ = cast("tuple[asyncio.Transport, Flow]", scope[SCOPE_KEY])
    return cast("StreamProtocol", transport.get_protocol())
