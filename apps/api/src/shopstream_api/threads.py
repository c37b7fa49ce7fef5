"""Blocking work beside the loop that must never delay the end of the process."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_daemon(work: Callable[[], T], name: str) -> T:
    """Run ``work`` in a thread that dies with the process.

    Unlike `asyncio.to_thread`, whose threads are joined at exit: a call that waits for a broker
    that is away would hold back the promised stop. Cancelled, the thread is left to itself.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(set_it: Callable[[], None]) -> None:
        if not outcome.done():
            set_it()

    def body() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - carried over to whoever awaits
            failure = error
            _call(loop, lambda: settle(lambda: outcome.set_exception(failure)))
        else:
            _call(loop, lambda: settle(lambda: outcome.set_result(result)))

    threading.Thread(target=body, name=name, daemon=True).start()
    return await outcome


def _call(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(action)
