"""The SQL that a release really executes, frozen, and executed again on a later schema.

In a rolling deploy the old code meets the new schema: whatever it executes must still work there
and read the same. `python -m tests.support.frozen FILE` records today's statements with their
parameters and results, in the tree of the release; files in `tests/golden/sql` are only ever added.
"""

import base64
import json
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, LiteralString
from unittest.mock import patch

import psycopg
from psycopg.pq.abc import PGresult
from psycopg.types.json import Jsonb
from tests.support.app import InProcess, in_process, later
from tests.support.components import LocalComponents

from shopstream_api.db import arrays
from shopstream_api.db.arrays import Array
from shopstream_api.db.wire import BEGIN, COMMIT, ROLLBACK, Call, Wire
from shopstream_api.outbox.relay.ports import Settling
from shopstream_api.outbox.relay.postgres import PostgresStore

GOLDEN_SQL: Final = Path(__file__).parents[1] / "golden" / "sql"
#: Columns that differ from one database to the next.
_OWN: Final = {"txid", "outbox_id"}

_ARRAYS: Final = {kind.__name__: kind for kind in Array.__subclasses__()}
#: How what JSON lacks is written and read.
_KINDS: Final[dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "array": (
        Array,
        lambda value: [type(value).__name__, base64.b64encode(value).decode()],
        lambda value: _ARRAYS[value[0]](base64.b64decode(value[1])),
    ),
    "bytes": (bytes, lambda value: base64.b64encode(value).decode(), base64.b64decode),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "time": (
        datetime,
        lambda value: value.astimezone(UTC).isoformat(),
        datetime.fromisoformat,
    ),
    "decimal": (Decimal, str, Decimal),
    "json": (Jsonb, lambda value: value.obj, Jsonb),
}
#: A request of the clients of the pool, in one transaction, or something beside the requests.
Step = dict[str, Any]


def replay(database_url: str, path: Path) -> list[str]:
    """Execute a release's statements; what came out otherwise than recorded."""
    frozen = json.loads(path.read_text())
    wrong = []
    with psycopg.connect(database_url) as connection:
        arrays.adapt(connection)
        for step in frozen["steps"]:
            connection.autocommit = step["autocommit"]
            for executed in step["executed"]:
                sql = frozen["statements"][executed["statement"]]
                found = _execute(connection, sql, executed)
                if found != executed["outcome"]:
                    wrong.append(f"{step['step']}: {sql}\n{found}\nnot {executed['outcome']}")
            connection.commit()
    return wrong


def _execute(
    connection: "psycopg.Connection[Any]", sql: LiteralString, executed: Step
) -> dict[str, Any]:
    cursor = connection.cursor()
    try:
        if "many" in executed:
            cursor.executemany(sql, _thawed(executed["many"]))
        else:
            cursor.execute(sql, _thawed(executed["parameters"]))
    except psycopg.Error as error:
        return {"error": error.sqlstate}
    names = [column.name for column in cursor.description or ()]
    return _outcome(names, cursor.rowcount, cursor.fetchall() if names else [])


def _outcome(
    names: Sequence[str], count: int | None, rows: Sequence[Sequence[Any]]
) -> dict[str, Any]:
    kept = [i for i, name in enumerate(names) if name not in _OWN]
    found = [[_frozen(row[i]) for i in kept] for row in rows]
    return {"count": -1 if count is None else count, "rows": found}


class Recorder:
    """Takes down what is executed while a step is open."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.statements: dict[str, int] = {}
        self._open: list[Step] | None = None

    @contextmanager
    def step(self, name: str, *, autocommit: bool = False) -> Iterator[None]:
        self._open = []
        try:
            yield
        finally:
            self.steps.append({"step": name, "autocommit": autocommit, "executed": self._open})
            self._open = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Stand between all cursors and the database."""
        with (
            patch.object(psycopg.Cursor, "execute", self._sync(psycopg.Cursor.execute)),
            patch.object(psycopg.AsyncCursor, "execute", self._async(psycopg.AsyncCursor.execute)),
            patch.object(
                psycopg.AsyncCursor, "executemany", self._async(psycopg.AsyncCursor.executemany)
            ),
            patch.object(Wire, "_exchanged", self._together(Wire._exchanged)),
        ):
            yield

    def _sync(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def execute(cursor: Any, query: Any, params: Any = None, **named: Any) -> Any:
            result = original(cursor, query, params, **named)
            rows = cursor.fetchall() if cursor.description and self._open is not None else []
            if rows:
                cursor.scroll(0, "absolute")
            self._note(cursor, query, params, rows, None)
            return result

        return execute

    def _async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def execute(cursor: Any, query: Any, params: Any = None, **named: Any) -> Any:
            try:
                result = await original(cursor, query, params, **named)
            except psycopg.Error as error:
                self._note(cursor, query, params, [], error.sqlstate)
                raise
            rows = await cursor.fetchall() if cursor.description and self._open is not None else []
            if rows:
                await cursor.scroll(0, "absolute")
            self._note(cursor, query, params, rows, None)
            return result

        return execute

    def _together(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def exchanged(wire: Wire, calls: Sequence[Call]) -> list[PGresult]:
            own = [call for call in calls if call[0] not in {BEGIN, COMMIT, ROLLBACK}]
            try:
                results: list[PGresult] = await original(wire, calls)
            except psycopg.Error as error:
                assert len(own) == 1, f"which of these has failed? {own}"
                self._take_down(own[0][0].text, dict(own[0][1]), {"error": error.sqlstate})
                raise
            for (statement, values), result in zip(calls, results, strict=True):
                if statement in {BEGIN, COMMIT, ROLLBACK}:
                    continue
                names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
                outcome = _outcome(names, result.command_tuples, wire._rows(result))
                self._take_down(statement.text, dict(values), outcome)
            return results

        return exchanged

    def _note(self, cursor: Any, query: Any, params: Any, rows: Any, error: str | None) -> None:
        names = [column.name for column in cursor.description or ()]
        outcome = {"error": error} if error else _outcome(names, cursor.rowcount, rows)
        self._take_down(query.decode() if isinstance(query, bytes) else str(query), params, outcome)

    def _take_down(self, sql: str, params: Any, outcome: dict[str, Any]) -> None:
        # The notifier sends in its own time, so what it sends belongs to no step.
        if self._open is None or sql.startswith("NOTIFY"):
            return
        number = self.statements.setdefault(sql, len(self.statements))
        sent = {"many" if isinstance(params, list) else "parameters": _frozen(params)}
        self._open.append({"statement": number, **sent, "outcome": outcome})


def _frozen(value: Any) -> Any:
    """A parameter or a result as JSON, with its type."""
    if isinstance(value, list | tuple):
        return [_frozen(entry) for entry in value]
    if isinstance(value, dict):
        return {"dict": {name: _frozen(entry) for name, entry in value.items()}}
    if isinstance(value, psycopg.Binary):
        return _frozen(value.obj)
    for kind, (held, write, _) in _KINDS.items():
        if isinstance(value, held):
            return {kind: write(value)}
    assert value is None or isinstance(value, bool | int | str), f"cannot freeze {value!r}"
    return value


def _thawed(value: Any) -> Any:
    if isinstance(value, list):
        return [_thawed(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "dict":
        return {name: _thawed(entry) for name, entry in inner.items()}
    return _KINDS[kind][2](inner)


def record(components: LocalComponents) -> Recorder:
    """Every kind of statement that today's code executes, on a database of its own."""
    recorder = Recorder()
    with recorder.listening(), in_process(components) as app:
        app.get("/products")  # what a new connection asks for first belongs to no step
        _catalog(recorder, app)
        _orders(recorder, app)
        _background(recorder, app)
    return recorder


def _send(
    recorder: Recorder, app: InProcess, method: str, path: str, body: object = None, **headers: str
) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    later(app, 1)
    with recorder.step(f"{method} {path}"):
        answer = app.request(method, path, json=body, headers=named)
    assert answer.status_code < 500, answer.text
    return answer.json() if answer.content else None


def _catalog(recorder: Recorder, app: InProcess) -> None:
    def send(method: str, path: str, body: object = None, **headers: str) -> Any:
        return _send(recorder, app, method, path, body, **headers)

    whole = {
        "name": "Kettle",
        "description": "Boils\nwater",
        "sku": "K-1",
        "category": "kitchen",
        "tags": ["red", "new"],
        "price": 19.99,
        "stock": 10,
        "sellerId": "s1",
    }
    kettle = f"/products/{send('POST', '/products', whole)['id']}"
    send("POST", "/products", whole)
    for _ in range(2):
        send("POST", "/products", {**whole, "sku": "K-2"}, Idempotency_Key="create")
    send("POST", "/products", {**whole, "sku": "K-2"}, Idempotency_Key="refused")
    send("PATCH", kettle, {"name": "Big kettle"})
    send("PATCH", kettle, {"price": 21, "sku": None}, Idempotency_Key="patch")
    send("PATCH", kettle, {"price": 21})
    send("PUT", kettle, {**whole, "status": "draft"}, If_Match="*")
    send("PUT", kettle, whole, If_Match='"v1"')
    for delta in (5, -12, -99):
        change = {"delta": delta, "reason": "counted"}
        send("POST", f"{kettle}/stock-adjustments", change, Idempotency_Key=f"adjust {delta}")
    for expected in (3, 99):
        send("PUT", f"{kettle}/stock", {"quantity": 0, "expectedQuantity": expected})
    for path in (kettle, f"{kettle}/inventory", f"{kettle}/stock-movements?limit=1"):
        send("GET", path)
    found = send("GET", "/products?sellerId=s1&limit=1")
    send("GET", f"/products?sellerId=s1&limit=1&cursor={found['nextCursor']}")
    send("GET", "/products?status=active&category=kitchen&priceMin=1&priceMax=99&q=kettle")
    send("GET", "/products?updatedSince=2020-01-01T00:00:00Z")
    send("DELETE", kettle)


def _orders(recorder: Recorder, app: InProcess) -> None:
    def send(method: str, path: str, body: object = None, **headers: str) -> Any:
        return _send(recorder, app, method, path, body, **headers)

    ids = [
        send("POST", "/products", {"name": name, "price": 5, "stock": 20, "sellerId": "s1"})["id"]
        for name in ("Cup", "Plate")
    ]

    def lines(quantity: int) -> dict[str, Any]:
        items = [{"productId": pid, "quantity": quantity} for pid in ids]
        return {"customerId": "c1", "items": items}

    placed = [send("POST", "/orders", lines(8), Idempotency_Key=f"o{n}")["id"] for n in (1, 2)]
    send("POST", "/orders", lines(5))
    send("POST", "/orders", {"items": [{"productId": str(uuid.UUID(int=7)), "quantity": 1}]})
    for verb in ("confirm", "pay", "ship", "deliver"):
        send("POST", f"/orders/{placed[0]}/{verb}")
    send("DELETE", f"/products/{ids[1]}")
    send("POST", f"/orders/{placed[1]}/cancel", {}, Idempotency_Key="cancel")
    send("POST", f"/orders/{placed[1]}/pay", {}, Idempotency_Key="late")
    for path in (placed[0], f"{placed[0]}/history"):
        send("GET", f"/orders/{path}", X_Seller_Id="s1")
    for query in ("customerId=c1&limit=1", "sellerId=s1&status=cancelled"):
        send("GET", f"/orders?{query}")


def _background(recorder: Recorder, app: InProcess) -> None:
    later(app, 25 * 3600)
    with recorder.step("sweep", autocommit=True):
        app.run(app.resources.sweeper._once)
    store = PostgresStore(app.database_url)
    try:
        with recorder.step("relay", autocommit=True):
            store.try_lead()
            store.identity()
            store.remember_transactional_id("t1")
            store.lag()
            rows = store.take(7)
            store.poison({rows[0].seq: "refused"})
            store.settle(Settling([row.seq for row in rows[1:]], "position"))
            store.take(2_000)
            store.ping()
    finally:
        store.close()


def main() -> None:
    """Write today's statements to the file that is named."""
    (path,) = sys.argv[1:]
    with LocalComponents() as components:
        recorder = record(components)
    statements, steps = (
        ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
        for entries in (list(recorder.statements), recorder.steps)
    )
    Path(path).write_text(f'{{"statements": [\n{statements}\n],\n"steps": [\n{steps}\n]}}\n')


if __name__ == "__main__":
    main()
