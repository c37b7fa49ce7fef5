"""Which statements a request sends to the database, whatever layer sends them.

Only those of the request itself and of tasks it starts: background jobs go on meanwhile. What
requests share is sent by tasks of their own, which nothing else uses: `Database.direct`.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

import httpx
import psycopg
from tests.support.app import InProcess

from shopstream_api.db.transaction import Database
from shopstream_api.db.wire import Statement, Wire

#: The list of the request under way, for the tasks that requests share.
_shared: list[list[str]] = []
_sent: ContextVar[list[str] | None] = ContextVar("sent", default=None)


@contextmanager
def watched() -> Iterator[None]:
    """Within, `statements_of` may be used."""
    with (
        patch.object(psycopg.AsyncCursor, "execute", _noting("execute")),
        patch.object(psycopg.AsyncCursor, "executemany", _noting("executemany")),
        patch.object(psycopg.AsyncCursor, "copy", _noting("copy")),
        patch.object(Wire, "run", _noting_wire(Wire.run)),
        patch.object(Database, "direct", _sharing(Database.direct)),
    ):
        yield


def statements_of(
    api: InProcess, method: str, path: str, **arguments: Any
) -> tuple[httpx.Response, list[str]]:
    """The answer and the texts of its statements, BEGIN and COMMIT left out."""
    sent: list[str] = []

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
    def noting(wire: Wire, statement: Statement, parameters: Any) -> Any:
        sent = _sent.get()
        if sent is not None:
            sent.append(statement.text)
        return original(wire, statement, parameters)

    return noting


def _noting(name: str) -> Callable[..., Any]:
    original = getattr(psycopg.AsyncCursor, name)

    @functools.wraps(original)
    def noting(cursor: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        sent = _sent.get()
        if sent is not None:
            sent.append(query if isinstance(query, str) else repr(query))
        return original(cursor, query, *arguments, **named)

    return noting
