"""An event loop for each simulated process, over the world's virtual time.

asyncio's own tasks, futures and time-outs run on it; nothing else of asyncio does. What is ready is
run at once and in order; what waits for a moment lies on the world's agenda. A loop that is frozen
(SIGSTOP) runs everything later, a dead one (SIGKILL) nothing any more.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Final, TypeVar

from tests.simulation.world import Fiber, World

T = TypeVar("T")

#: Rounds that a dead loop gets to unwind its tasks in; none of ours takes more than ten.
BURY_ROUNDS_MAX: Final = 100


class SimLoop(asyncio.AbstractEventLoop):
    """See the module. ``on_error`` is told of exceptions that nobody waits for."""

    def __init__(self, world: World, on_error: Callable[[str], None]) -> None:
        self._world = world
        self._on_error = on_error
        self._ready: deque[asyncio.Handle] = deque()
        self._turning = False
        self._tasks: list[asyncio.Task[Any]] = []
        self.frozen_until = 0.0
        self.dead = False

    def time(self) -> float:
        return self._world.now

    def call_soon(  # type: ignore[override]  # typeshed spells its arguments by TypeVarTuple
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._turning:
            self._turning = True
            self._world.at(0.0, self._turn)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # one thread

    def call_at(  # type: ignore[override]  # see call_soon
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._world.at(max(0.0, when - self._world.now), lambda: self._due(timer))
        return timer

    def call_later(  # type: ignore[override]  # see call_soon
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._world.now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override]  # see call_soon
        self, _executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """In a fiber, which blocks by `Machine.wait`."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - it is the caller's
                self.call_soon(_settle, future, None, error)
            else:
                self.call_soon(_settle, future, result, None)

        Fiber.of(self._world, work)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self.dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._on_error(f"{context.get('message')}: {context.get('exception')!r}")

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        """It stays on the agenda and does nothing."""

    def _due(self, timer: asyncio.TimerHandle) -> None:
        if timer.cancelled() or self.dead:
            return
        self._ready.append(timer)
        if not self._turning:
            self._turning = True
            self._turn()

    def _turn(self) -> None:
        """Run what is ready until nothing is, the process stands still or is dead."""
        asyncio._set_running_loop(self)
        try:
            while self._ready and not self.dead:
                left = self.frozen_until - self._world.now
                if left > 0:
                    self._world.at(left, self._turn)
                    return
                self._run_one()
        finally:
            asyncio._set_running_loop(None)
        self._turning = False

    def _run_one(self) -> None:
        handle = self._ready.popleft()
        if not handle.cancelled():
            handle._run()

    def bury(self) -> None:
        """Unwind what a process that has ended left, where nobody sees it.

        Python would do so whenever it collects the coroutines, with a warning for each `finally`
        that waits.
        """
        self.dead = True
        self._on_error = lambda _: None
        for _ in range(BURY_ROUNDS_MAX):
            left = [task for task in self._tasks if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            asyncio._set_running_loop(self)
            try:
                while self._ready:
                    self._run_one()
            finally:
                asyncio._set_running_loop(None)
        for task in self._tasks:
            if task.done() and not task.cancelled():
                # Nobody asked; nobody shall be told.
                task.exception()
        self._tasks.clear()
        self._ready.clear()


def _settle(future: "asyncio.Future[T]", result: T, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
