"""The journal of a run: every acknowledged write and every event a client received.

JSON Lines in ``journal/<run>.jsonl`` of the data directory. Each line has ``kind``:

- ``run``: the run's id and when it began;
- ``write``: an answer of the 2xx kind with method, path, status, id, version, inventoryVersion;
- ``client``: an SSE client with its filter; ``connected``: whether its connection was resumed;
- ``received``: client, event id, topic, subject and sequence, in the order of arrival.

Lines are written through at once, so that a run that is killed leaves what it knew: `verify
--journal` reads these to show that nothing acknowledged was lost and nothing came twice.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TextIO

from shopstream_shared.clock import Clock, format_time
from shopstream_stack.demo.evidence import SeenEvent, WatcherReading
from shopstream_stack.demo.oracle import Exchange

_NAMES = ("id", "productId", "status", "version", "inventoryVersion", "stock")


class Journal:
    """One run's file. Not safe across threads; the demo writes from one event loop."""

    def __init__(self, sink: TextIO, clock: Clock, path: Path) -> None:
        self.path = path
        self._sink = sink
        self._clock = clock

    @classmethod
    @contextmanager
    def open(cls, directory: Path, run: str, clock: Clock) -> Iterator[Self]:
        """A fresh file for the run. Raises FileExistsError when the run's name was used."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{run}.jsonl"
        with path.open("x", encoding="utf-8", buffering=1) as sink:
            journal = cls(sink, clock, path)
            journal._line("run", run=run)
            yield journal

    def write(self, exchange: Exchange) -> None:
        """Note an acknowledged write; other exchanges are not noted."""
        success = 200 <= exchange.status < 300  # noqa: PLR2004 - HTTP's own border
        if not success or exchange.method in {"GET", "HEAD", "OPTIONS"}:
            return
        answer = exchange.answer or {}
        self._line(
            "write",
            method=exchange.method,
            path=exchange.path,
            status=exchange.status,
            replayed=exchange.replayed,
            answer={name: answer[name] for name in _NAMES if name in answer},
        )

    def client(self, watcher: WatcherReading) -> None:
        """Note a client and what it asked for."""
        types = list(watcher.types)
        self._line("client", client=watcher.name, types=types, sellerId=watcher.seller_id)

    def connected(self, watcher: WatcherReading, *, resumed: bool) -> None:
        """Note that a client's stream opened."""
        self._line("connected", client=watcher.name, resumed=resumed)

    def received(self, watcher: WatcherReading, event: SeenEvent) -> None:
        """Note the arrival of one event."""
        self._line(
            "received",
            client=watcher.name,
            eventId=event.event_id,
            topic=event.topic,
            subject=event.subject,
            sequence=event.sequence,
        )

    def _line(self, kind: str, **members: Any) -> None:
        line = {"kind": kind, "at": format_time(self._clock.now()), **members}
        self._sink.write(json.dumps(line, separators=(",", ":")) + "\n")
