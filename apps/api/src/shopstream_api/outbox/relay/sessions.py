"""A thread's work on a database session of its own."""

import threading
from abc import ABC, abstractmethod
from typing import Any, Final

import psycopg

from shopstream_api.db.connect import ANSWER_SECONDS_MAX, connect

RETRY_SECONDS: Final = 1.0


class SessionWork(ABC):
    """Attends a session until stopped; a lost or silent one is made anew."""

    #: Longer only for work that the server takes long for.
    answer_seconds_max = ANSWER_SECONDS_MAX

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                with connect(self._address, self.answer_seconds_max) as session:
                    self._attend(session)
            except psycopg.Error:
                self._stop.wait(RETRY_SECONDS)

    @abstractmethod
    def _attend(self, session: psycopg.Connection[Any]) -> None:
        """Work until `_stop` is set, or until another session is wanted. Raises psycopg.Error."""
