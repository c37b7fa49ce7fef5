"""The threads around a relay: its own, and one that listens for commits of other processes."""

import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg

from shopstream_api.db.connect import connect, conninfo
from shopstream_api.outbox.relay.relay import Relay
from shopstream_api.outbox.relay.wakeup import Wakeup

CHANNEL: Final = "shopstream_outbox"
#: How long one wait for notifications may keep a stop waiting.
LISTEN_STEP_SECONDS: Final = 0.5
LISTEN_RETRY_SECONDS: Final = 1.0
#: A relay ends within one step of its Kafka calls; past this it is left to the end of the process.
JOIN_SECONDS_MAX: Final = 3.0


class Listener:
    """Turns NOTIFY into wake-ups. Without it, or with the session lost, polling still works."""

    def __init__(self, database_url: str, wakeup: Wakeup) -> None:
        self._address = conninfo(database_url, "shopstream-listen")
        self._wakeup = wakeup
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                with connect(self._address) as session:
                    session.execute(f"LISTEN {CHANNEL}".encode())
                    self._listen(session)
            except psycopg.Error:
                self._stop.wait(LISTEN_RETRY_SECONDS)

    def _listen(self, session: "psycopg.Connection[tuple[object, ...]]") -> None:
        while not self._stop.is_set():
            for _ in session.notifies(timeout=LISTEN_STEP_SECONDS, stop_after=1):
                self._wakeup.wake()


class RelayThreads:
    """A relay and its listener, started and stopped together."""

    def __init__(self, relay: Relay, listener: Listener) -> None:
        self._parts: tuple[tuple[Callable[[], None], threading.Thread], ...] = (
            (relay.stop, threading.Thread(target=relay.run, name="relay", daemon=True)),
            (listener.stop, threading.Thread(target=listener.run, name="listen", daemon=True)),
        )

    def start(self) -> None:
        for _, thread in self._parts:
            thread.start()

    def stop(self) -> None:
        """Ask all to end and wait, bounded; what is cut off here the next start recovers."""
        for stop, _ in self._parts:
            stop()
        deadline = time.monotonic() + JOIN_SECONDS_MAX
        for _, thread in self._parts:
            thread.join(max(0, deadline - time.monotonic()))
