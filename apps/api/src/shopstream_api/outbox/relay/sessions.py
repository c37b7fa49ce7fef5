"""A thread's work on a database session of its own."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

import psycopg

from shopstream_api.db.connect import connect

RETRY_SECONDS: Final = 1.0


class SessionWork(ABC):
    """Attends a session until stopped; a lost or silent one is made anew."""

    def __init__(
        self, database_url: str, name: str, options: Mapping[str, int | str] | None = None
    ) -> None:
        """Of a session as `connect` makes it."""
        self._session = database_url, name, options
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                with connect(*self._session) as session:
                    self._attend(session)
            except psycopg.Error:
                self._stop.wait(RETRY_SECONDS)

    @abstractmethod
    def _attend(self, session: psycopg.Connection[Any]) -> None:
        """Work until `_stop` is set, or until another session is wanted. Raises psycopg.Error."""
