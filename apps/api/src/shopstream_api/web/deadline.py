"""No request waits without end: at its deadline it is answered, and what it does is cancelled."""

import asyncio
from collections.abc import Collection
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shopstream_api.web.errors import DeadlineExceeded
from shopstream_api.web.handlers import render


class Deadline:
    """ASGI middleware. ``seconds`` from a request's head to the start of its answer.

    The answer goes out at once, though cancelling may take longer: a stalled server does not answer
    the request to cancel its statement either. ``exempt`` are paths that read their bodies for
    long.
    """

    def __init__(self, app: ASGIApp, *, seconds: float, exempt: Collection[str]) -> None:
        self._app = app
        self._seconds = seconds
        self._exempt: Final = frozenset(exempt)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        await _Timed(self._seconds, send).run(self._app, scope, receive)


class _Timed:
    """One request against the clock."""

    __slots__ = ("_begun", "_refusal", "_seconds", "_send", "_task")

    def __init__(self, seconds: float, send: Send) -> None:
        self._seconds = seconds
        self._send = send
        self._begun = False
        self._refusal: asyncio.Task[None] | None = None
        self._task: asyncio.Task[object] | None = None

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        timer = loop.call_later(self._seconds, self._expire, scope, receive)
        try:
            await app(scope, receive, self._answer)
        except asyncio.CancelledError:
            if self._refusal is None:
                raise
        finally:
            timer.cancel()
        if self._refusal is not None:
            if self._task is not None:
                # Cancelled by us, not by whoever runs this task.
                self._task.uncancel()
            await self._refusal

    async def _answer(self, message: Message) -> None:
        if self._refusal is None:
            self._begun = True
            await self._send(message)

    def _expire(self, scope: Scope, receive: Receive) -> None:
        if self._begun or self._task is None:
            return
        error = DeadlineExceeded(f"The request took longer than {self._seconds:g} seconds.")
        response = render(Request(scope), error)
        self._refusal = asyncio.ensure_future(response(scope, receive, self._send))
        self._task.cancel()
