"""Imports beside other writers, each race forced once; and what worker and sweep give up."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import psycopg
import pytest
from tests.support.app import InProcess, in_process, later
from tests.support.components import LocalComponents
from tests.support.imports import SELLER, counts, ended, ndjson, row, sending, upload
from tests.support.races import AFTER, BEFORE, blocked, hooked, paused, replaced
from tests.support.system import wait_until

from shopstream_api.catalog import many
from shopstream_api.imports import worker
from shopstream_api.imports.models import Counts
from shopstream_api.imports.repository import ImportRepository
from shopstream_api.stock.service import StockService


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as app:
        yield app


def _sequences(api: InProcess, product_id: str, topic: str) -> list[int]:
    found = api.query(
        "SELECT sequence FROM event_audit WHERE subject = %s AND topic = %s ORDER BY sequence",
        product_id,
        topic,
    )
    return [sequence for (sequence,) in found]


def test_a_patch_waits_for_the_slice_and_neither_is_lost(api: InProcess) -> None:
    product = api.product(sku="patched", stock=5)

    async def scene() -> tuple[httpx.Response, httpx.Response]:
        with paused(many, "locked", AFTER) as gate:
            answer = await sending(api, ndjson([row("patched", name="imported", stock=9)]))
            await gate.reached()
            url = f"/products/{product['id']}"
            patch = asyncio.create_task(api.client.patch(url, json={"category": "patched"}))
            await blocked(api.database_url)
            gate.open()
            return answer, await patch

    answer, patched = api.run(scene)
    assert counts(ended(api, answer)) == (0, 1, 0, 0)
    shown = patched.json()
    assert (shown["name"], shown["category"], shown["stock"]) == ("imported", "patched", 9)
    assert (shown["version"], shown["inventoryVersion"]) == (3, 1)
    assert _sequences(api, product["id"], "shop.products") == [1, 2, 3]


def test_a_sku_taken_between_look_and_insert_is_changed_instead(api: InProcess) -> None:
    body = {"name": "theirs", "price": 1, "sellerId": SELLER, "sku": "taken", "stock": 1}
    made: list[httpx.Response] = []

    async def take() -> None:
        made.append(await api.client.post("/products", json=body))

    rows = [row("before"), row("taken", stock=4), row("taken", price=3), row("after")]
    with hooked(many, "locked", AFTER, take):
        shown = ended(api, upload(api, ndjson(rows)))
    assert counts(shown) == (2, 2, 0, 0)
    product = api.get(f"/products/{made[0].json()['id']}").json()
    assert (product["price"], product["stock"], product["version"]) == (3, 4, 3)
    # Nothing is left of the product that was not inserted.
    products = api.query("SELECT count(*) FROM products WHERE seller_id = %s", SELLER)
    created = api.query("SELECT count(*) FROM event_audit WHERE type = 'product.created'")
    assert products == created


def test_two_imports_of_one_file_change_each_product_once(api: InProcess) -> None:
    file = ndjson([row(f"twice-{n}", stock=n) for n in range(40)])

    async def scene() -> tuple[httpx.Response, httpx.Response]:
        first, second = sending(api, file), sending(api, file)
        return await first, await second

    first, second = api.run(scene)
    assert {counts(ended(api, first)), counts(ended(api, second))} == {
        (40, 0, 0, 0),
        (0, 0, 40, 0),
    }


def test_a_key_is_in_flight_while_its_upload_is_received(api: InProcess) -> None:
    half, rest = ndjson([row("slow-1")]), ndjson([row("slow-2")])

    async def scene() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        more, begun = asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield half
            begun.set()
            await more.wait()
            yield rest

        first = sending(api, body(), "slow")
        await begun.wait()
        early = await sending(api, half + rest, "slow")
        more.set()
        done = await first
        return early, done, await sending(api, half + rest, "slow")

    early, done, again = api.run(scene)
    assert (early.status_code, early.json()["code"]) == (409, "idempotency_key_in_flight")
    assert early.headers["retry-after"] == "1"
    assert counts(ended(api, done)) == (2, 0, 0, 0)
    assert again.content == done.content


def test_more_uploads_at_a_time_than_the_bound_are_told_to_come_later(api: InProcess) -> None:
    async def scene() -> list[httpx.Response]:
        more = asyncio.Event()
        begun: asyncio.Queue[None] = asyncio.Queue()

        async def body() -> AsyncIterator[bytes]:
            yield b"\n"
            begun.put_nowait(None)
            await more.wait()

        uploads = [sending(api, body()) for _ in range(4)]
        for _ in uploads:
            await begun.get()
        refused = await sending(api, b"\n")
        more.set()
        return [refused, *await asyncio.gather(*uploads)]

    answers = api.run(scene)
    assert [answer.status_code for answer in answers] == [503, 202, 202, 202, 202]
    assert answers[0].headers["retry-after"] == "1"


def test_imports_take_turns(api: InProcess) -> None:
    turns: list[UUID] = []

    async def scene() -> list[httpx.Response]:
        with paused(ImportRepository, "claimed", BEFORE) as gate:
            large = await sending(api, b"x\n" * 1_600)
            await gate.reached()
            small = await sending(api, b"x\n" * 900)
            gate.open()
        return [large, small]

    original = ImportRepository.advance

    async def noted(self: ImportRepository, import_id: UUID, by: Counts, _at: Any) -> None:
        turns.append(import_id)
        later(api, 1)
        await original(self, import_id, by, api.clock.now())

    with replaced(ImportRepository, "advance", noted):
        large, small = api.run(scene)
        assert counts(ended(api, large)) == (0, 0, 0, 1_600)
        assert counts(ended(api, small)) == (0, 0, 0, 900)
    first, second = UUID(large.json()["id"]), UUID(small.json()["id"])
    assert turns == [first, second, first, second, first, first]


def test_a_slice_that_cannot_be_worked_fails_its_import_and_no_other(api: InProcess) -> None:
    broken = upload(api, b"x\n" * 600)
    ended(api, broken)
    bad = uuid.uuid4()
    now = api.clock.now()
    api.query(
        "INSERT INTO imports SELECT %s, seller_id, 'running', media_type, header, 0, 0, 0, 0,"
        " request_id, correlation_id, traceparent, created_at, %s FROM imports WHERE id = %s"
        " RETURNING id",
        bad,
        now - timedelta(hours=1),
        broken.json()["id"],
    )
    api.query(
        "INSERT INTO import_slices VALUES (%s, 1, 'no slice', %s) RETURNING import_id", bad, now
    )

    def given_up() -> bool:
        # The application's own task may be at it too.
        with contextlib.suppress(msgspec.MsgspecError):
            api.run(api.resources.imports.step)
        return bool(api.get(f"/imports/{bad}").json()["status"] == "failed")

    wait_until(given_up, "the import has failed")
    attempts = api.resources.registry.get_sample_value("shopstream_import_failures_total")
    assert attempts == worker.ATTEMPTS_MAX
    assert counts(ended(api, upload(api, ndjson([row("unharmed")])))) == (1, 0, 0, 0)


def test_the_sweep_takes_what_uploads_have_left_and_what_is_long_over(api: InProcess) -> None:
    done = upload(api, b"x\n")
    ended(api, done)
    location = done.headers["location"]
    orphan = uuid.uuid4()
    insert = "INSERT INTO import_slices VALUES (%s, 1, '', %s) RETURNING import_id"
    api.query(insert, orphan, api.clock.now())
    api.run(api.resources.imports.sweep)
    count = "SELECT count(*) FROM import_slices WHERE import_id = %s"
    assert api.query(count, orphan) == [(1,)]
    later(api, worker.SLICES_KEPT.total_seconds() + 1)
    api.run(api.resources.imports.sweep)
    assert api.query(count, orphan) == [(0,)]
    assert api.get(location).status_code == 200
    later(api, worker.IMPORTS_KEPT.total_seconds())
    api.run(api.resources.imports.sweep)
    assert api.get(location).status_code == 404
    assert api.query("SELECT count(*) FROM import_errors") == [(0,)]


def test_a_slice_undone_by_a_deadlock_is_worked_again_whole(api: InProcess) -> None:
    calls, original = 0, StockService.set_many

    def deadlocked(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        original(*arguments)
        if calls == 1:
            raise psycopg.errors.DeadlockDetected

    ended(api, upload(api, ndjson([row("again", stock=3)])))
    with replaced(StockService, "set_many", deadlocked):
        rows = [row("again", stock=5, price=2), row("new one")]
        shown = ended(api, upload(api, ndjson(rows)))
    assert (calls, counts(shown)) == (2, (1, 1, 0, 0))
    ((product_id,),) = api.query("SELECT id::text FROM products WHERE sku = 'again'")
    assert _sequences(api, product_id, "shop.products") == [1, 2]
    assert _sequences(api, product_id, "shop.inventory") == [1]
