"""How a commit wakes the relays: an event in this process, NOTIFY from others, polling beneath."""

import threading
import time


class Wakeup:
    """The `Waits` of a relay's thread; any thread may wake it or stop it."""

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._stopped = threading.Event()

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        self._stopped.set()
        self._woken.set()

    def stopped(self) -> bool:
        return self._stopped.is_set()

    def now(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def clear(self) -> None:
        self._woken.clear()

    def wait(self, seconds: float) -> None:
        self._woken.wait(seconds)


class Wakeups:
    """Those of all relays of a process: which shards a commit has rows in nobody asks."""

    def __init__(self) -> None:
        self._all: tuple[Wakeup, ...] = ()

    def add(self) -> Wakeup:
        """One more; by one thread at a time."""
        wakeup = Wakeup()
        self._all = (*self._all, wakeup)
        return wakeup

    def wake(self) -> None:
        for wakeup in self._all:
            wakeup.wake()
