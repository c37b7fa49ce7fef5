"""Products made and read many to a statement: the same answers, rows and events as one by one."""

import asyncio
import contextlib
import functools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from tests.support.api import ApiProcess, published
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents
from tests.support.system import wait_until

from shopstream_api.catalog.coalesced import CREATES_IN_FLIGHT_MAX, CoalescedCatalog
from shopstream_api.catalog.repository import ProductReader
from shopstream_api.web.hot import HotPaths
from shopstream_shared.clock import ManualClock

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARALLEL: Final = 64
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
#: A body, headers besides, and the status it gets, in the order in which they are sent.
CASES: Final[list[tuple[Any, dict[str, str], int]]] = [
    ({"name": "plain", "price": 99.99, "stock": 10, "sellerId": "s1"}, {}, 201),
    (
        {
            "name": ' "quoted" \\ back, {braced} ünï 😀 ',
            "price": 0,
            "sellerId": "s1",
            "description": "two\nlines\tand \\N NULL",
            "sku": "A-1",
            "category": "",
            "tags": ["a", 'b"c', "d\\e", "{f,g}", "", "NULL", "null"],
            "currency": "JPY",
            "status": "draft",
        },
        {},
        201,
    ),
    ({"name": "same sku", "price": 1, "sellerId": "s1", "sku": "A-1"}, {}, 409),
    ({"name": "another seller's", "price": 1, "sellerId": "s2", "sku": "A-1"}, {}, 201),
    ({"name": "from the header", "price": 1.5}, {"x-seller-id": "s3"}, 201),
    ({"name": "not this seller", "price": 1, "sellerId": "s1"}, {"x-seller-id": "s3"}, 403),
    ({"name": " ", "price": "1", "version": 3}, {}, 422),
    ({"name": "dear", "price": 1e10, "sellerId": "s1", "stock": 10**9}, {}, 201),
    ({"name": "too dear", "price": 1e10 + 0.01, "sellerId": "s1"}, {}, 422),
    (
        {"name": "traced", "price": 12.345, "currency": "KWD", "sellerId": "s1"},
        {
            "x-correlation-id": "corr-1",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        },
        201,
    ),
]
_ROWS: Final = (
    "SELECT to_jsonb(p) - 'search' FROM products p ORDER BY created_at, id",
    (
        "SELECT to_jsonb(o) - 'seq' - 'txid' || jsonb_build_object("
        " 'payload', convert_from(payload, 'UTF8'), 'headers', convert_from(headers, 'UTF8'))"
        " FROM outbox o ORDER BY seq"
    ),
    "SELECT to_jsonb(a) - 'sha256' FROM event_audit a ORDER BY subject",
    "SELECT to_jsonb(l) FROM audit_log l ORDER BY entity_id",
)


@pytest.fixture(scope="module")
def app(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components, clock=ManualClock(NOON)) as running:
        yield running


def body(**members: Any) -> dict[str, Any]:
    return {"name": "Test Product", "price": 1.5, "sellerId": "s1", **members}


def together(app: InProcess, bodies: Sequence[dict[str, Any]]) -> list[httpx.Response]:
    """Send all of them at the same time."""

    async def send() -> list[httpx.Response]:
        sent = [
            app.client.post("/products", json=body, headers={"x-request-id": f"request-{number}"})
            for number, body in enumerate(bodies)
        ]
        return await asyncio.gather(*sent)

    return app.run(send)


def started(
    app: InProcess, bodies: Sequence[dict[str, Any]]
) -> list["asyncio.Task[httpx.Response]"]:
    """Send them one after the other, waiting for no answer."""

    async def send() -> list["asyncio.Task[httpx.Response]"]:
        tasks = []
        for sent in bodies:
            tasks.append(asyncio.create_task(app.client.post("/products", json=sent)))
            await asyncio.sleep(0)
        return tasks

    return app.run(send)


@contextmanager
def held(app: InProcess) -> Iterator[list["asyncio.Task[httpx.Response]"]]:
    """All statements that may be under way stand still; yields the requests in them."""
    sku = f"held-{uuid4()}"

    with psycopg.connect(app.database_url) as holder:
        holder.execute(
            "INSERT INTO products (id, seller_id, name, sku, tags, price_minor, price, currency,"
            " status, initial_stock, stock, reserved, version, inventory_version, created_at,"
            " updated_at) VALUES (gen_random_uuid(), 's1', 'held', %s, '{}', 1, 1, 'USD', 'active',"
            " 0, 0, 0, 1, 0, now(), now())",
            (sku,),
        )
        tasks: list[asyncio.Task[httpx.Response]] = []
        for number in range(1, CREATES_IN_FLIGHT_MAX + 1):
            tasks += started(app, [body(sku=sku)])
            wait_until(functools.partial(_wait, app, number), "the statement waits")
        yield tasks
        holder.rollback()


def _wait(app: InProcess, statements: int) -> bool:
    """Whether that many statements of the API wait for a lock."""
    return [(statements,)] == app.query(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'shopstream-api' AND wait_event_type = 'Lock'"
    )


def outcome(app: InProcess, tasks: Sequence["asyncio.Task[httpx.Response]"]) -> list[int]:
    """The statuses of requests sent before."""

    async def answers() -> list[httpx.Response]:
        return await asyncio.gather(*tasks)

    return [answer.status_code for answer in app.run(answers)]


def test_each_of_many_at_once_gets_what_it_would_get_alone(app: InProcess) -> None:
    seller = f"seller-{uuid4()}"
    bodies = [
        body(name=f"p{number}", sellerId=seller, sku=f"sku-{number % 40}", stock=number)
        for number in range(PARALLEL)
    ]
    answers = together(app, bodies)

    made: dict[str, dict[str, Any]] = {}
    for number, answer in enumerate(answers):
        assert answer.headers["x-request-id"] == f"request-{number}"
        sent, shown = bodies[number], answer.json()
        if answer.status_code == 201:
            assert shown["sku"] not in made
            made[shown["sku"]] = shown
            assert {name: shown[name] for name in sent} == sent
            assert answer.headers["location"] == f"/products/{shown['id']}"
            assert app.get(f"/products/{shown['id']}").content == answer.content
        else:
            assert (answer.status_code, shown["code"]) == (409, "duplicate_sku")
            assert shown["requestId"] == f"request-{number}"
    assert set(made) == {f"sku-{number}" for number in range(40)}
    events = app.query(
        "SELECT id::text, payload FROM outbox WHERE topic = 'shop.products' AND aggregateid ="
        " ANY(SELECT id::text FROM products WHERE seller_id = %s)",
        seller,
    )
    decoded = [json.loads(payload) for _, payload in events]
    assert {event["subject"]: event["data"] for event in decoded} == {
        shown["id"]: shown for shown in made.values()
    }
    assert len(decoded) == len(made)


def test_every_row_is_recorded_and_every_transaction_knows_its_size(app: InProcess) -> None:
    together(app, [body(sku=f"size-{number % 20}") for number in range(PARALLEL)])

    assert (
        app.query(
            "SELECT txid FROM outbox GROUP BY txid HAVING count(*) <> max(txrows)"
            " OR max(txrows) <> min(txrows)"
        )
        == []
    )
    assert (
        app.query(
            "SELECT p.id FROM products p FULL JOIN event_audit a ON a.subject = p.id FULL JOIN"
            " audit_log l ON l.entity_id = p.id FULL JOIN outbox o ON o.aggregateid = p.id::text"
            " WHERE p.id IS NULL OR a.event_id IS DISTINCT FROM o.id OR l.id IS NULL"
            " OR a.sha256 <> sha256(o.payload)"
        )
        == []
    )


def test_what_shares_a_statement_is_published_in_the_order_it_came(app: InProcess) -> None:
    seller = f"z-{uuid4()}"

    # By sku they would come the other way round.
    bodies = [body(sellerId=seller, name=str(n), sku=f"{99 - n}") for n in range(20)]
    with held(app) as first:
        queued = started(app, bodies)
    assert outcome(app, first).count(201) == 1
    assert outcome(app, queued) == [201] * 20
    found = app.query(
        "SELECT convert_from(payload, 'UTF8')::json->'data'->>'name', txrows FROM outbox"
        " WHERE convert_from(payload, 'UTF8')::json->>'sellerid' = %s ORDER BY seq",
        seller,
    )
    assert [name for name, _ in found] == [str(number) for number in range(20)]
    assert max(rows for _, rows in found) > 1


def test_a_client_that_goes_away_takes_nobody_with_it(app: InProcess) -> None:
    seller = f"gone-{uuid4()}"

    async def cancel(task: "asyncio.Task[httpx.Response]") -> None:
        task.cancel()
        await asyncio.wait([task])

    with held(app) as first:
        queued = started(app, [body(sellerId=seller, name=str(number)) for number in range(6)])
        app.run(lambda: cancel(queued[2]))
        app.run(lambda: cancel(first[0]))
    assert outcome(app, [task for task in queued if task is not queued[2]]) == [201] * 5
    names = app.query("SELECT name FROM products WHERE seller_id = %s ORDER BY name", seller)
    assert [name for (name,) in names] == ["0", "1", "3", "4", "5"]


def test_a_session_that_ends_in_the_middle_leaves_nothing_half_written(app: InProcess) -> None:
    before = counts(app)

    with held(app) as first:
        queued = started(app, [body()] * 30)
        app.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
            " current_database() AND application_name = 'shopstream-api'"
            " AND wait_event_type = 'Lock'"
        )
        assert set(outcome(app, first)) == {503}
    statuses = outcome(app, queued)
    assert set(statuses) <= {201, 503}
    assert counts(app) == [count + statuses.count(201) for count in before]
    assert app.post("/products", body()).status_code == 201


def counts(app: InProcess) -> list[int]:
    tables = ("products", "outbox", "event_audit", "audit_log")
    return [app.query(f"SELECT count(*) FROM {table}")[0][0] for table in tables]


def test_one_row_that_the_server_refuses_does_not_fail_the_others(app: InProcess) -> None:
    """No row can be refused by the server but for its sku; so a trigger says that it is."""
    with psycopg.connect(app.database_url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE unique_violation USING CONSTRAINT = 'products_seller_id_sku_key'; END $$;"
            " CREATE TRIGGER refuse BEFORE INSERT ON products FOR EACH ROW"
            " WHEN (NEW.name = 'refused') EXECUTE FUNCTION refuse()"
        )
        try:
            answers = together(app, [body(name=name) for name in ("a", "refused", "b", "c")])
        finally:
            connection.execute("DROP FUNCTION refuse CASCADE")
    assert [answer.status_code for answer in answers] == [201, 409, 201, 201]
    assert [answers[place].json()["name"] for place in (0, 2, 3)] == ["a", "b", "c"]


def test_the_plain_way_and_the_shared_one_leave_the_same(
    session_components: LocalComponents,
) -> None:
    shared, plain = (_trace(session_components, keyed=keyed) for keyed in (False, True))
    assert shared == plain


def test_the_router_answers_as_the_hot_paths_do(
    session_components: LocalComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot = _trace(session_components)
    monkeypatch.setattr(HotPaths, "_found", lambda _self, _scope: None)
    assert _trace(session_components) == hot


def _trace(components: LocalComponents, *, keyed: bool = False) -> list[str]:
    """Everything that CASES leave behind, ids replaced by the order in which they appear."""
    with in_process(components, clock=ManualClock(NOON)) as app:
        found: list[Any] = []
        places = ["/products/no-id", "/products/01890a5d-ac96-774b-bcce-b302099a8057"]
        for number, (sent, own, status) in enumerate(CASES):
            headers = {"x-request-id": f"request-{number}", **own}
            if keyed:
                headers["idempotency-key"] = f"key-{number}"
            answer = app.post("/products", sent, headers=headers)
            assert answer.status_code == status, answer.text
            found.append(answer)
            places += [place for place in [answer.headers.get("location")] if place]
        for number, place in enumerate(places):
            for condition in ('"v1.0"', '"v2.0"'):
                headers = {"x-request-id": f"read-{number}", "if-none-match": condition}
                found.append(app.get(place, headers=headers))
        seen: dict[str, str] = {}
        told = [
            *((one.status_code, sorted(one.headers.items()), one.text) for one in found),
            *(row for statement in _ROWS for row in app.query(statement)),
        ]
    return [_ID.sub(lambda id_: seen.setdefault(id_[0], f"id-{len(seen)}"), repr(e)) for e in told]


def test_a_shared_read_shows_what_a_single_one_shows(app: InProcess) -> None:
    kept, deleted = app.product(name="kept", tags=["a"]), app.product(name="deleted")
    assert app.request("DELETE", f"/products/{deleted['id']}").status_code == 204
    ids = [UUID(kept["id"]), UUID(deleted["id"]), uuid4(), UUID(kept["id"])]
    catalog = CoalescedCatalog(app.resources.database)

    async def both_ways() -> tuple[list[Any], list[Any]]:
        async with app.resources.database.reading() as connection:
            single = [await ProductReader(connection).shown(id_) for id_ in ids]
        return single, await asyncio.gather(*(catalog.shown(id_) for id_ in ids))

    single, shared = app.run(both_ways)
    assert single == shared


def test_reads_and_conditional_reads_at_once_are_each_answered(app: InProcess) -> None:
    made = [app.product(name=f"read {number}") for number in range(8)]

    async def read() -> list[httpx.Response]:
        requests = []
        for number in range(PARALLEL):
            path = f"/products/{made[number % 8]['id'] if number % 3 else uuid4()}"
            headers = {"if-none-match": '"v1.0"'} if number % 2 else {}
            requests.append(app.client.get(path, headers=headers))
        return await asyncio.gather(*requests)

    for number, answer in enumerate(app.run(read)):
        if number % 3 == 0:
            assert answer.status_code == 404
        elif number % 2:
            assert (answer.status_code, answer.content) == (304, b"")
        else:
            assert answer.json() == made[number % 8]


def test_a_database_that_is_killed_in_the_middle_leaves_nothing_half_written(
    components: LocalComponents,
) -> None:
    with in_process(components) as app:
        # The lock is held by a session of the same server, which ends with it.
        with contextlib.suppress(psycopg.OperationalError), held(app) as first:
            queued = started(app, [body()] * 30)
            components.kill("postgres")
        answers = outcome(app, [*first, *queued])
        assert answers == [503] * len(answers)

        components.start("postgres")
        wait_until(lambda: app.post("/products", body()).status_code == 201, "writes go on")
        assert counts(app) == [1, 1, 1, 1]


def test_the_relay_publishes_all_that_shared_a_statement(components: LocalComponents) -> None:
    with ApiProcess.beside(components, KAFKA_BROKERS=components.kafka_brokers) as api:

        async def send() -> list[httpx.Response]:
            address = str(api.client.base_url)
            async with httpx.AsyncClient(base_url=address, timeout=30) as client:
                sent = [client.post("/products", json=body(name=str(n))) for n in range(PARALLEL)]
                return await asyncio.gather(*sent)

        made = {answer.json()["id"]: answer.json() for answer in asyncio.run(send())}
        assert len(made) == PARALLEL
        assert api.query("SELECT count(*) FROM products") == [(PARALLEL,)]
        api.drained()
        records = published(components.kafka_brokers, *made)
    assert {record.key: record.event["data"] for record in records} == made
    assert len(records) == PARALLEL
