"""Journals: what was acknowledged and what clients received, as the runs wrote it down.

Read before the cut: what was acknowledged before a snapshot is in it, and what a client had by then
is below its end. A run that was killed leaves its last line half; that one says nothing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from shopstream_stack.errors import StackError
from shopstream_stack.journal import FORMAT
from shopstream_stack.verify.spool import Spool, Table

ACKNOWLEDGED: Final = {
    # What must be there: product, inventory, order, reservation, or a product gone.
    "kind": "VARCHAR",
    "id": "VARCHAR",
    "version": "BIGINT",
    "place": "VARCHAR",
}
CLIENTS: Final = {
    "client": "VARCHAR",
    "types": "VARCHAR",
    "seller": "VARCHAR",
    "subject": "VARCHAR",
}
RECEIVED: Final = {
    "client": "VARCHAR",
    # Grows with each gap that the client was told of.
    "span": "BIGINT",
    "line": "BIGINT",
    "event_id": "VARCHAR",
    "topic": "VARCHAR",
    "subject": "VARCHAR",
    "sequence": "BIGINT",
}

#: What a path's last or first part names; all else is a product.
_KINDS: Final = {"orders": "order", "reservations": "reservation"}

Write = tuple[str, str, int]


@dataclass(slots=True)
class Journals:
    """All journals of a check, taken into the spool."""

    spool: Spool
    files: int = 0
    writes: int = 0
    clients: int = 0
    connections: int = 0
    events: int = 0
    #: Files that say too little.
    old: list[str] = field(default_factory=list)

    def read(self, paths: Sequence[Path]) -> None:
        """Fill ``acknowledged``, ``clients`` and ``received``. Raises StackError."""
        with (
            self.spool.table("acknowledged", ACKNOWLEDGED) as acknowledged,
            self.spool.table("clients", CLIENTS) as clients,
            self.spool.table("received", RECEIVED) as received,
        ):
            for path in files_of(paths):
                self._file(path, acknowledged, clients, received)

    def _file(self, path: Path, acknowledged: Table, clients: Table, received: Table) -> None:
        self.files += 1
        spans: dict[str, int] = {}
        for number, line in lines_of(path):
            kind = line.get("kind")
            client = f"{path.stem}: {line.get('client', '')}"
            if kind == "run" and line.get("format", 1) < FORMAT:
                self.old.append(path.name)
                return
            if kind == "write":
                self.writes += 1
                for write in promised(line):
                    acknowledged.add((*write, f"{path.name}:{number}"))
                acknowledged.checkpoint()
            elif kind == "client":
                self.clients += 1
                types = ",".join(line.get("types") or ())
                clients.add((client, types, line.get("sellerId") or "", line.get("subject") or ""))
            elif kind == "connected":
                self.connections += 1
            elif kind == "gap":
                spans[client] = spans.get(client, 0) + 1
            elif kind == "received":
                self.events += 1
                where = (line["topic"], line["subject"], line["sequence"])
                received.add((client, spans.get(client, 0), number, line["eventId"], *where))
                received.checkpoint()


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The journals meant: files as they are, of a folder all of it. Raises StackError."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(path.glob("*.jsonl"))
        elif path.is_file():
            found.append(path)
        else:
            raise StackError(f"There is no journal at {path}")
    return list(dict.fromkeys(found))


def lines_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines and their numbers. Raises StackError for a line that is none, the last apart."""
    with path.open(encoding="utf-8") as lines:
        for number, text in enumerate(lines, 1):
            try:
                line = json.loads(text)
            except ValueError as error:
                if not text.endswith("\n"):
                    return
                raise StackError(f"{path}:{number} is no line of a journal: {error}") from error
            if not isinstance(line, dict):
                raise StackError(f"{path}:{number} is no line of a journal")
            yield number, line


def promised(line: Mapping[str, Any]) -> list[Write]:
    """What an acknowledged write promises: kind, id and at least this version."""
    answer = line.get("answer") or {}
    parts = str(line["path"]).partition("?")[0].removeprefix("/api/v1").strip("/").split("/")
    if line["method"] == "DELETE":
        return [("released" if parts[0] == "reservations" else "deleted", parts[1], 0)]
    if "products" in answer:
        return [_product(product) for product in answer["products"]]
    if "inventoryVersion" in answer and "productId" in answer:
        return [("inventory", answer["productId"], answer["inventoryVersion"])]
    # A finished import is forgotten after a time; what it wrote has its own versions.
    if "id" not in answer or parts[0] == "imports":
        return []
    kind = _KINDS.get(parts[-1], _KINDS.get(parts[0]))
    return [_product(answer) if kind is None else (kind, answer["id"], answer.get("version", 0))]


def _product(answer: Mapping[str, Any]) -> Write:
    return "product", answer["id"], answer.get("version", 0)
