"""Sends requests to the API and holds answers, reads, lists and events against the model."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import httpx
import msgspec
import psycopg
from tests.support import invariants
from tests.support.api_model import Refused, Shop
from tests.support.api_things import THRESHOLD, Json
from tests.support.app import InProcess

KEPT: Final = timedelta(hours=24)
BEGIN: Final = datetime.fromisoformat("2031-05-30T12:00:00+00:00")
#: A refusal that depends on what was sent alone: a key does not remember it.
NOT_STORED: Final = {"validation_failed"}
_TABLES: Final = (
    "SELECT string_agg(quote_ident(relname), ', ') FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    " AND NOT relispartition"
    " AND relname NOT IN ('alembic_version', 'outbox_shards', 'relay_state', 'stream_position')"
)

_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it is sent; ``other`` is another body that is as good."""

    method: str
    path: str
    body: Json | None = None
    caller: str | None = None
    key: str | None = None
    match: str | None = None
    other: Json | None = None
    #: False when the body alone breaks a rule: that is told before a key is looked at.
    valid: bool = True

    @property
    def scope(self) -> tuple[str, ...]:
        """Whose the key is: the caller's, or that of the seller a product is made for."""
        makes = self.path == "/products" and self.body is not None
        owner = self.caller or (self.body or {}).get("sellerId", "") if makes else self.caller
        return (owner or "", self.method, self.path, self.key or "")


@dataclass(frozen=True, slots=True)
class Reply:
    """What must be answered."""

    status: int
    body: Json | None
    etag: str | None = None
    location: str | None = None


#: What a request does in the model; it takes the ids of new things from the answer it is given.
Command = Callable[[Json], Reply]


class Driver:
    """One shop twice: on an emptied database behind the API, and as the model."""

    def __init__(self, app: InProcess) -> None:
        self.app = app
        with psycopg.connect(app.database_url) as connection:
            (tables,) = connection.execute(_TABLES).fetchone() or ("",)
            connection.execute(f"TRUNCATE {tables} RESTART IDENTITY".encode())
        app.clock.at = BEGIN
        self.shop = Shop(app.clock.now)
        #: What was asked with a key, to be asked again.
        self.keyed: list[tuple[Call, Command]] = []
        self._kept: dict[tuple[str, ...], tuple[Call, httpx.Response, datetime]] = {}
        self._latest = BEGIN
        self._verified: dict[str, object] = {}
        self._sound = True

    def run(self, call: Call, command: Command) -> None:
        """Send a request, compare with what the model does, and what both show afterwards."""
        self._tick()
        self._ask(call, command)

    def repeat(self, call: Call, command: Command, *, other: bool) -> None:
        """Send a request again, or another with its key."""
        self._tick()
        if other:
            again = replace(call, body=call.other)
            kept = self._kept[call.scope][0].body
            if call.other is None or call.other == kept or not self._is_kept(again):
                return
            call = again
        self._ask(call, command)

    def _tick(self) -> None:
        """Time goes on, so that no two requests are of one moment."""
        self.app.clock.advance(timedelta(seconds=1))
        self._latest = max(self._latest, self.app.clock.at)

    def _ask(self, call: Call, command: Command) -> None:
        self._sound = False
        self._asked(call, command)
        self._sound = True

    def _asked(self, call: Call, command: Command) -> None:
        kept = self._is_kept(call)
        if kept is None:
            return
        answer = self._send(call)
        if kept:
            self._replayed(call, answer)
            return
        assert "idempotent-replayed" not in answer.headers
        refused = self._compare(answer, command)
        if call.key is not None and refused not in NOT_STORED:
            self._kept[call.scope] = (call, answer, self.app.clock.at)
            self.keyed.append((call, command))
        self.verify()

    def _is_kept(self, call: Call) -> bool | None:
        """Whether the call's key is remembered; None when that depends on when it was swept."""
        if call.key is None or call.scope not in self._kept or not call.valid:
            return False
        at = self._kept[call.scope][2]
        if at > self._latest - KEPT:
            return True
        return None if at > self.app.clock.at - KEPT else False

    def _replayed(self, call: Call, answer: httpx.Response) -> None:
        first, stored, _ = self._kept[call.scope]
        if (first.body or {}) == (call.body or {}):
            assert answer.headers["idempotent-replayed"] == "true"
            assert _essence(answer) == _essence(stored)
        else:
            found = (answer.status_code, answer.json()["code"])
            assert found == (422, "idempotency_key_reused")

    def _compare(self, answer: httpx.Response, command: Command) -> str | None:
        """Compare with what the model does; returns the code of a refusal."""
        body = _read(answer) or {}
        try:
            reply = command(body)
        except Refused as error:
            refused = error
        else:
            found = _without_problems(body)
            assert (answer.status_code, found) == (reply.status, reply.body or {}), answer.text
            assert answer.headers.get("etag") == reply.etag
            assert reply.location in {None, answer.headers.get("location")}
            return None
        assert (answer.status_code, body.get("code")) == (refused.status, refused.code), answer.text
        assert refused.members.items() <= _told(body).items()
        return refused.code

    def _send(self, call: Call) -> httpx.Response:
        headers = {
            "x-seller-id": call.caller,
            "idempotency-key": call.key,
            "if-match": call.match,
            "content-type": None if call.body is None else "application/json",
        }
        return self.app.request(
            call.method,
            call.path,
            content=None if call.body is None else _encode(call.body),
            headers={name: value for name, value in headers.items() if value is not None},
        )

    def verify(self) -> None:
        """GET what has changed since it was read last, and compare."""
        for product in self.shop.products.values():
            path = f"/products/{product.id}"
            if self._has_changed(path, (product.etag, product.deleted)):
                self._same(path, None if product.deleted else product.shown(), product.etag)
            level = None if product.deleted else product.level()
            if self._has_changed(f"{path}/inventory", level):
                self._same(f"{path}/inventory", level)
        for order in self.shop.orders.values():
            if self._has_changed(f"/orders/{order.id}", order.etag):
                self._same(f"/orders/{order.id}", order.shown(), order.etag)

    def _has_changed(self, path: str, state: object) -> bool:
        changed = self._verified.get(path, self) != state
        self._verified[path] = state
        return changed

    def _same(self, path: str, body: Json | None, etag: str | None = None) -> None:
        """A GET answers with this body; None: with 404."""
        answer = self.app.get(path)
        if body is None:
            assert answer.status_code == 404
        else:
            assert (answer.status_code, _read(answer)) == (200, body)
            assert answer.headers.get("etag") == etag

    def finish(self) -> None:
        """Compare what only the whole can show, unless a step has failed already."""
        if not self._sound:
            return
        self._lists_agree()
        self._events_agree()
        assert invariants.holds(self.app.database_url) == []

    def _lists_agree(self) -> None:
        there = [product for product in self.shop.products.values() if not product.deleted]
        for product in there[:3]:
            known = {"if-none-match": product.etag}
            assert self.app.get(f"/products/{product.id}", headers=known).status_code == 304
        there.sort(key=lambda product: (product.at, product.id), reverse=True)
        for order in self.shop.orders.values():
            steps = _read(self.app.get(f"/orders/{order.id}/history")) or {}
            assert steps["data"] == order.history
        orders = sorted(self.shop.orders.values(), key=lambda o: (o.at, o.id), reverse=True)
        for seller in ("s1", "s2"):
            own = [product.shown() for product in there if product.seller == seller]
            assert self._pages(f"/products?sellerId={seller}&limit=3") == own
            sold = [order.shown() for order in orders if order.seller == seller]
            assert self._pages(f"/orders?sellerId={seller}&limit=3") == sold
        low = {product.id for product in there if product.stock <= THRESHOLD}
        assert {row["productId"] for row in self._pages("/inventory/low-stock?limit=3")} == low
        for product in there:
            rows = self._pages(f"/products/{product.id}/stock-movements?limit=3")
            made = [{"productId": product.id, **movement} for movement in product.movements[::-1]]
            assert [{**row, "id": None} for row in rows] == [{**row, "id": None} for row in made]

    def _pages(self, path: str) -> list[Json]:
        rows: list[Json] = []
        cursor = ""
        while True:
            page = _read(self.app.get(path + cursor)) or {}
            rows += page["data"]
            if not page["hasMore"]:
                return rows
            cursor = f"&cursor={page['nextCursor']}"

    def _events_agree(self) -> None:
        """All that would be published, in the order of the log."""
        found = self.app.query("SELECT topic, aggregateid, payload FROM outbox ORDER BY seq")
        events = [(topic, key, _event(payload)) for topic, key, payload in found]
        assert events == [
            (event.topic, event.subject, (event.type, event.sequence, event.data))
            for event in self.shop.events
        ]


def _event(payload: bytes) -> tuple[str, int, Json]:
    event = json.loads(payload, parse_float=Decimal)
    return event["type"], int(event["sequence"]), event["data"]


def _read(answer: httpx.Response) -> Json | None:
    return json.loads(answer.content, parse_float=Decimal) if answer.content else None


def _without_problems(body: Json) -> Json:
    """Of a bulk answer, each row's problem by its code alone."""
    rows = body.get("results")
    if rows is None:
        return body
    for row in rows:
        if "problem" in row:
            row["code"] = row.pop("problem")["code"]
    return body


def _told(problem: Json) -> Json:
    """A problem's members; of its errors what they point at."""
    return {**problem, "errors": [fault["pointer"] for fault in problem["errors"]]}


def _essence(answer: httpx.Response) -> tuple[Any, ...]:
    return answer.status_code, answer.content, answer.headers.get("location")
