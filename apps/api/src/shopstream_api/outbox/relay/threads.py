"""The threads around the relays: a relay's own, one a shard, and those that serve them all."""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import psycopg

from shopstream_api.outbox.relay.sessions import SessionWork
from shopstream_api.outbox.relay.wakeup import Wakeups

CHANNEL: Final = "shopstream_outbox"
#: How long one wait for notifications may keep a stop waiting.
LISTEN_STEP_SECONDS: Final = 0.5
#: How often the listener asks whether the server is still there.
ASK_SECONDS: Final = 5.0
#: A relay ends within one step of its Kafka calls; past this it is left to the end of the process.
JOIN_SECONDS_MAX: Final = 3.0


class Listener(SessionWork):
    """Turns NOTIFY into wake-ups. Without it, or with the session lost, polling still works."""

    def __init__(self, database_url: str, wakeups: Wakeups) -> None:
        super().__init__(database_url, "shopstream-listen")
        self._wakeups = wakeups

    def _attend(self, session: "psycopg.Connection[Any]") -> None:
        session.execute(f"LISTEN {CHANNEL}".encode())
        asked = time.monotonic()
        while not self._stop.is_set():
            for _ in session.notifies(timeout=LISTEN_STEP_SECONDS, stop_after=1):
                self._wakeups.wake()
            if time.monotonic() - asked >= ASK_SECONDS:
                # Silence may also be that of a connection that passes nothing more.
                session.execute("SELECT 1")
                asked = time.monotonic()


class Work(Protocol):
    """What a thread does until told to stop."""

    def run(self) -> None: ...
    def stop(self) -> None: ...


class RelayThreads:
    """A relay a shard and what serves them, started and stopped together."""

    def __init__(self, relay_of: Callable[[int], Work]) -> None:
        self._relay_of = relay_of
        self._lock = threading.Lock()
        self._stopping = False
        self._shards = 0
        self._threads: list[tuple[Work, threading.Thread]] = []

    def start(self, **others: Work) -> None:
        """Start the relay of shard 0, and ``others``, threads by name."""
        self.grow(1)
        with self._lock:
            for name, work in others.items():
                self._start(work, name)

    def grow(self, shards: int) -> None:
        """Have a relay for each of so many shards; they are never fewer again."""
        with self._lock:
            while self._shards < shards and not self._stopping:
                self._start(self._relay_of(self._shards), f"relay-{self._shards}")
                self._shards += 1

    def _start(self, work: Work, name: str) -> None:
        thread = threading.Thread(target=work.run, name=name, daemon=True)
        self._threads.append((work, thread))
        thread.start()

    def stop(self) -> None:
        """Ask all to end and wait, bounded; what is cut off here the next start recovers."""
        with self._lock:
            self._stopping = True
        for work, _ in self._threads:
            work.stop()
        deadline = time.monotonic() + JOIN_SECONDS_MAX
        for _, thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
