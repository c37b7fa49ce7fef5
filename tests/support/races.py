"""Force a race once: stand still before or after a chosen call, or do something else there.

For `tests.support.app.in_process`: the hooks patch a class or module of the running application.
`race` is the usual case; what it is made of is used inside the application's loop.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import psycopg
from tests.support.app import InProcess

When = Literal["before", "after"]
BEFORE: Final = "before"
AFTER: Final = "after"
WAIT_SECONDS_MAX: Final = 20.0
POLL_SECONDS: Final = 0.01

_BLOCKED: Final = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def race(
    app: InProcess,
    place: tuple[Any, str],
    first: Callable[[], Awaitable[Any]],
    second: Callable[[], Awaitable[Any]],
    *,
    waits: bool = True,
) -> tuple[Any, Any]:
    """Results of both; ``first`` stands behind ``place`` until ``second`` waits, or has ended."""

    async def scene() -> tuple[Any, Any]:
        with paused(*place, AFTER) as gate:
            leading = asyncio.ensure_future(first())
            await gate.reached()
            following = asyncio.ensure_future(second())
            if waits:
                await blocked(app.database_url)
            else:
                await following
            gate.open()
            return await leading, await following

    return app.run(scene)


class Gate:
    """Where one call stands still until it is let through."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._open = asyncio.Event()

    async def reached(self) -> None:
        """Wait until the call has come here."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await self._reached.wait()

    def open(self) -> None:
        self._open.set()

    async def stand(self) -> None:
        self._reached.set()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await self._open.wait()


@contextmanager
def paused(owner: Any, name: str, when: When, *, call: int = 1) -> Iterator[Gate]:
    """Hold the ``call``-th call of ``owner.name`` (an async function) before or after it runs.

    Whatever still stands at the end of the block is let through.
    """
    gate = Gate()
    with hooked(owner, name, when, gate.stand, call=call):
        try:
            yield gate
        finally:
            gate.open()


@contextmanager
def hooked(
    owner: Any, name: str, when: When, action: Callable[[], Awaitable[object]], *, call: int = 1
) -> Iterator[None]:
    """Run ``action`` once, before or after the ``call``-th call of ``owner.name``."""
    original = getattr(owner, name)
    calls = 0

    @functools.wraps(original)
    async def wrapper(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        chosen = calls == call
        if chosen and when == BEFORE:
            await action()
        result = await original(*arguments, **named)
        if chosen and when == AFTER:
            await action()
        return result

    with replaced(owner, name, wrapper):
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another ``owner.name`` for a while."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


class Breaths:
    """How much is done between two turns of the loop, at the most."""

    def __init__(self) -> None:
        self.most = self._now = 0

    def did(self, amount: int = 1) -> None:
        self._now += amount
        self.most = max(self.most, self._now)

    async def watch(self, until: Callable[[], bool]) -> None:
        while not until():
            self._now = 0
            await asyncio.sleep(0)


async def blocked(database_url: str, sessions: int = 1) -> None:
    """Wait until so many sessions of the database wait for another's lock."""
    async with (
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection,
        asyncio.timeout(WAIT_SECONDS_MAX),
    ):
        while True:
            found = await (await connection.execute(_BLOCKED)).fetchone()
            if found is not None and found[0] >= sessions:
                return
            await asyncio.sleep(POLL_SECONDS)
