"""Which statements a request sends to the database, whatever layer sends them.

Only those of the request itself and of tasks it starts: background jobs go on meanwhile. What
requests share is sent by tasks of their own, which nothing else uses: `Database.direct`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

import httpx
import psycopg
from tests.support.app import InProcess

from shopstream_api.db.transaction import Database
from shopstream_api.db.wire import BEGIN, COMMIT, ROLLBACK, Call, Wire

#: What goes to the database together, one way there and back: the texts of its statements.
Way = list[str]

#: The list of the request under way, for the tasks that requests share.
_shared: list[list[Way]] = []
_sent: ContextVar[list[Way] | None] = ContextVar("sent", default=None)


@contextmanager
def watched() -> Iterator[None]:
    """Within, `statements_of` may be used."""
    with (
        patch.object(psycopg.AsyncCursor, "execute", _noting("execute")),
        patch.object(psycopg.AsyncCursor, "executemany", _noting("executemany")),
        patch.object(psycopg.AsyncCursor, "copy", _noting("copy")),
        patch.object(Wire, "together", _noting_wire(Wire.together)),
        patch.object(Database, "direct", _sharing(Database.direct)),
    ):
        yield


def statements_of(
    api: InProcess, method: str, path: str, **arguments: Any
) -> tuple[httpx.Response, list[Way]]:
    """The answer and its statements, those apart that go apart; BEGIN and COMMIT left out."""
    sent: list[Way] = []

    async def scene() -> httpx.Response:
        _sent.set(sent)
        return await api.client.request(method, path, **arguments)

    _shared[:] = [sent]
    try:
        return api.run(scene), sent
    finally:
        _shared.clear()


def _sharing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def sharing(*arguments: Any) -> Any:
        token = _sent.set(_shared[0] if _shared else None)
        try:
            return await original(*arguments)
        finally:
            _sent.reset(token)

    return sharing


def _noting_wire(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def noting(wire: Wire, calls: Sequence[Call]) -> Any:
        sent = _sent.get()
        if sent is not None:
            sent.append([one.text for one, _ in calls if one not in {BEGIN, COMMIT, ROLLBACK}])
        return original(wire, calls)

    return noting


def _noting(name: str) -> Callable[..., Any]:
    original = getattr(psycopg.AsyncCursor, name)

    @functools.wraps(original)
    def noting(cursor: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        sent = _sent.get()
        if sent is not None:
            sent.append([query if isinstance(query, str) else repr(query)])
        return original(cursor, query, *arguments, **named)

    return noting
