"""What a check is: a name, why it is asked, and how it comes to its verdict."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Literal

import httpx

from shopstream_stack.kit.tape import Tape, taping
from shopstream_stack.kit.target import Target

#: Of a server that is not starved itself.
FIRST_SECONDS_MAX: Final = 2.0
#: What an answer that should come at once may take.
ANSWER_SECONDS_MAX: Final = 10.0

State = Literal["holds", "FAILED", "skipped"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a check ended, and what was seen."""

    state: State
    seen: str


def judged(holds: object, seen: str) -> Verdict:
    """The check could decide."""
    return Verdict("holds" if holds else "FAILED", seen)


def skipped(why: str) -> Verdict:
    """It could not: what it needs did not happen."""
    return Verdict("skipped", why)


@dataclass(slots=True)
class Kit:
    """What the checks work with. ``main`` is one stream that is open from the first to the last."""

    target: Target
    client: httpx.AsyncClient
    headers: Mapping[str, str]
    patience: float
    main: Tape
    #: A first byte that takes longer is held back by somebody.
    first_seconds: float = FIRST_SECONDS_MAX
    #: At most so many checks at once: a server's limits are not what is checked.
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(8))

    @property
    def answer_seconds(self) -> float:
        """How long to wait for what should come at once."""
        return min(ANSWER_SECONDS_MAX, self.patience)

    def open(
        self, headers: Mapping[str, str] | None = None, /, **parameters: str
    ) -> AbstractAsyncContextManager[Tape]:
        """Ask for the stream with these headers and query parameters besides."""
        url = self.target.asking(**parameters) if parameters else self.target.url
        return taping(self.client, url, {**self.headers, **(headers or {})})

    async def answer(
        self, method: str, headers: Mapping[str, str] | None = None, **parameters: str
    ) -> httpx.Response:
        """A whole answer, which must end. Raises httpx.HTTPError, TimeoutError."""
        url = self.target.asking(**parameters) if parameters else self.target.url
        asked = {**self.headers, **(headers or {})}
        async with asyncio.timeout(self.answer_seconds):
            return await self.client.request(method, url, headers=asked)

    async def some_id(self) -> str:
        """An id that the main stream has brought, "" when none came in time."""
        await self.main.until(lambda: self.main.last_id, self.patience)
        return self.main.last_id


Run = Callable[[Kit], Awaitable[Verdict]]


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table."""

    name: str
    why: str
    run: Run

    async def verdict(self, kit: Kit) -> Verdict:
        """What does not answer fails the check, not the command."""
        async with kit.turns:
            try:
                return await self.run(kit)
            except (httpx.HTTPError, TimeoutError, ValueError) as error:
                return Verdict("FAILED", f"{type(error).__name__}: {error}")


@dataclass(slots=True)
class Register:
    """The checks of a profile in their order."""

    checks: list[Check] = field(default_factory=list)

    def __call__(self, name: str, why: str) -> Callable[[Run], Run]:
        """Register the function below as a check."""

        def add(run: Run) -> Run:
            self.checks.append(Check(name, why, run))
            return run

        return add
