"""The journal of a run: every acknowledged write and every event a client received.

JSON Lines in ``journal/<run>.jsonl`` of the data directory. Each line has ``kind``:

- ``run``: the run's id, the journal's format and when it began;
- ``write``: an answer of the 2xx kind with method, path, status and what the answer says of ids
  and versions;
- ``unanswered``: a write that was given up without an answer: it may have happened or not;
- ``client``: an SSE client with its filter; it has no filter but the ones named here, and all that
  it receives is noted;
- ``connected``: whether its connection was resumed; ``gap``: it was told that it misses something;
- ``received``: client, event id, topic, subject and sequence, in the order of arrival.

Lines are written through at once, so that a run that is killed leaves what it knew: `verify
--journal` reads these to show that nothing acknowledged was lost and nothing came twice.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, Self, TextIO

from shopstream_shared.clock import Clock, format_time

#: From 2 on a client's lines hold all that it received.
FORMAT: Final = 2
_NAMES: Final = ("id", "productId", "status", "version", "inventoryVersion", "stock")


class Answered(Protocol):
    """A request and its answer."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def answer(self) -> Mapping[str, Any] | None: ...
    @property
    def replayed(self) -> bool: ...


class Received(Protocol):
    """An event as a client got it."""

    @property
    def event_id(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def sequence(self) -> int: ...


class Journal:
    """One run's file. Not safe across threads: it is written from one event loop."""

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
            journal._line("run", run=run, format=FORMAT)
            yield journal

    def write(self, exchange: Answered) -> None:
        """Note an acknowledged write; other exchanges are not noted."""
        success = 200 <= exchange.status < 300  # noqa: PLR2004 - HTTP's own border
        if not success or exchange.method in {"GET", "HEAD", "OPTIONS"}:
            return
        self._line(
            "write",
            method=exchange.method,
            path=exchange.path,
            status=exchange.status,
            replayed=exchange.replayed,
            answer=_slim(exchange.answer or {}),
        )

    def unanswered(self, method: str, path: str) -> None:
        """Note a write that nobody answered, however often it was sent."""
        self._line("unanswered", method=method, path=path)

    def client(
        self,
        name: str,
        *,
        types: Sequence[str] = (),
        seller_id: str | None = None,
        subject: str | None = None,
    ) -> None:
        """Note a client and what it asked for; a name is one client's of this run."""
        self._line("client", client=name, types=list(types), sellerId=seller_id, subject=subject)

    def connected(self, name: str, *, resumed: bool) -> None:
        """Note that a client's stream opened."""
        self._line("connected", client=name, resumed=resumed)

    def gap(self, name: str, what: str) -> None:
        """Note that a client was told of a gap (stream.gap, stream.lagged)."""
        self._line("gap", client=name, what=what)

    def received(self, name: str, event: Received) -> None:
        """Note the arrival of one event."""
        self._line(
            "received",
            client=name,
            eventId=event.event_id,
            topic=event.topic,
            subject=event.subject,
            sequence=event.sequence,
        )

    def _line(self, kind: str, **members: Any) -> None:
        line = {"kind": kind, "at": format_time(self._clock.now()), **members}
        self._sink.write(json.dumps(line, separators=(",", ":")) + "\n")


def _slim(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Ids and versions; of a bulk answer those of the rows that were taken."""
    slim = {name: answer[name] for name in _NAMES if name in answer}
    if "results" in answer:
        slim["products"] = [_slim(row["product"]) for row in answer["results"] if "product" in row]
    return slim
