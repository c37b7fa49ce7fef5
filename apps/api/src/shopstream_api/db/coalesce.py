"""Concurrent requests for one row each, answered by one statement for many rows.

What arrives while a statement is under way waits for the next one: an idle service starts a
statement at once, a busy one larger statements by itself. One is under way at a time, for two make
smaller ones; but who waits for one that takes long, for another's lock for instance, is served
beside it. ADR 0007.

Kept apart:

- Each item gets its own answer, and only once the statement that served it has committed.
- An item that is refused does not fail the others: ``together`` returns its error in its place.
- When the server refuses the whole statement, nothing was written: each item goes ``alone``.
- When it is not known what happened (Unavailable), nothing is repeated: all get that answer.
- A request that goes away leaves its batch alone; one that has not been taken yet is left out.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from shopstream_api.errors import Unavailable
from shopstream_shared.logs import get_logger

#: Rows of one statement. Larger ones save nothing more and make the first wait for the last.
ROWS_MAX: Final = 200
#: Requests waiting: at the rates measured, less than a second's worth.
WAITING_MAX: Final = 2_000
#: Several times what a statement of all requests of a busy service takes.
PATIENCE_SECONDS: Final = 0.1

_log = get_logger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Coalescer(Generic[Item, Answer]):
    """``together`` answers items in their order, an item's refusal standing in its place.

    A call that takes longer than ``patience_seconds`` has others beside it, up to
    ``in_flight_max`` in all.
    """

    def __init__(
        self,
        together: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]],
        alone: Callable[[Item], Awaitable[Answer]],
        *,
        in_flight_max: int,
        rows_max: int = ROWS_MAX,
        waiting_max: int = WAITING_MAX,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._together = together
        self._alone = alone
        self._in_flight_max = in_flight_max
        self._rows_max = rows_max
        self._waiting_max = waiting_max
        self._patience_seconds = patience_seconds
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        #: The lanes whose call takes long.
        self._late: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Answer:
        """The item's answer. Raises Unavailable when too many wait, and the item's refusal."""
        if len(self._waiting) >= self._waiting_max:
            raise Unavailable("Too many requests are waiting for the database.")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._attend()
        return await answer

    def _attend(self) -> None:
        """Start a lane for who waits, unless one is there that will take them soon."""
        if self._lanes != self._late or len(self._lanes) >= self._in_flight_max:
            return
        # In a context of its own: what it logs is not the first request's.
        self._lanes.add(
            asyncio.create_task(self._lane(), name="coalesced-statements", context=Context())
        )

    def _give_up_on(self, lane: "asyncio.Task[None]") -> None:
        self._late.add(lane)
        if self._waiting:
            self._attend()

    async def _lane(self) -> None:
        """One statement after the other until nothing waits, or another lane does that."""
        lane = asyncio.current_task()
        assert lane is not None  # noqa: S101 - for the type: a lane is a task
        loop = asyncio.get_running_loop()
        try:
            while self._others_late(lane) and (batch := self._taken()):
                self._late.discard(lane)
                timer = loop.call_later(self._patience_seconds, self._give_up_on, lane)
                try:
                    await self._serve(batch)
                except BaseException:
                    for _, answer in batch:
                        _refuse(answer, Unavailable("The service is stopping."))
                    raise
                finally:
                    timer.cancel()
        finally:
            # In the step that found nothing waiting. Left to a callback of the task, whoever came
            # in between would see a lane that takes no more, start none, and wait for ever.
            self._lanes.discard(lane)
            self._late.discard(lane)

    def _others_late(self, lane: "asyncio.Task[None]") -> bool:
        return self._lanes - self._late <= {lane}

    def _taken(self) -> list[tuple[Item, "asyncio.Future[Answer]"]]:
        taken: list[tuple[Item, asyncio.Future[Answer]]] = []
        while self._waiting and len(taken) < self._rows_max:
            waiting = self._waiting.popleft()
            if not waiting[1].cancelled():
                taken.append(waiting)
        return taken

    async def _serve(self, batch: list[tuple[Item, "asyncio.Future[Answer]"]]) -> None:
        try:
            results = await self._together([item for item, _ in batch])
        except Unavailable as error:
            for _, answer in batch:
                # One for each: every raise writes its own traceback into the error.
                _refuse(answer, Unavailable(error.detail))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one row's
            _log.warning("rows go one by one", kind=type(error).__name__, rows=len(batch))
            await self._one_by_one(batch)
        else:
            for (_, answer), result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    _refuse(answer, result)
                elif not answer.done():
                    answer.set_result(result)

    async def _one_by_one(self, batch: list[tuple[Item, "asyncio.Future[Answer]"]]) -> None:
        for item, answer in batch:
            if answer.done():
                continue
            try:
                result = await self._alone(item)
            except Exception as error:  # noqa: BLE001 - raised where the item was submitted
                _refuse(answer, error)
            else:
                if not answer.done():
                    answer.set_result(result)


def _refuse(answer: "asyncio.Future[Answer]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
