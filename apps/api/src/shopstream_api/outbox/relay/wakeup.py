"""How a commit wakes the relay: an event in this process, NOTIFY from others, polling beneath."""

import threading


class Wakeup:
    """A flag that any thread may raise and only the relay lowers."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> None:
        self._event.set()

    def clear(self) -> None:
        """Lower the flag; the relay does so before it looks, so no wake-up is lost."""
        self._event.clear()

    def wait(self, seconds: float) -> None:
        self._event.wait(seconds)
