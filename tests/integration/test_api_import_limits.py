"""What workers and uploads give up, what they leave to others, and that nobody waits for them."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import httpx
import pytest
from prometheus_client import CollectorRegistry
from tests.support.app import InProcess, in_process, later
from tests.support.components import LocalComponents
from tests.support.imports import NDJSON, counts, ended, errors, ndjson, row, sending, upload
from tests.support.races import AFTER, BEFORE, Breaths, hooked, paused, replaced

from shopstream_api.catalog import batch
from shopstream_api.catalog import service as catalog
from shopstream_api.catalog.many import ROWS_A_BREATH
from shopstream_api.catalog.schemas import STOCK_MAX, read_new
from shopstream_api.db.transaction import Transaction
from shopstream_api.idempotency.service import KEPT
from shopstream_api.imports import prepare, routes, worker
from shopstream_api.imports.models import Counts, ImportRow
from shopstream_api.imports.records import Records
from shopstream_api.imports.repository import ImportRepository
from shopstream_api.imports.upload import PIECE_BYTES
from shopstream_api.imports.worker import ATTEMPTS_MAX, ImportMetrics, ImportWorker
from shopstream_api.principal import Principal, RequestContext
from shopstream_shared.crash import CrashPoints

#: Bytes of one piece of an upload as the server hands it over, at the most.
CHUNK_BYTES: Final = 1_048_576


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as app:
        yield app


def test_others_have_their_turn_while_a_file_is_read(api: InProcess) -> None:
    breaths, feed = Breaths(), Records.feed

    def fed(self: Records, data: bytes) -> list[bytes | None]:
        breaths.did(len(data))
        return feed(self, data)

    async def scene() -> None:
        await breaths.watch(sending(api, b"\n" * CHUNK_BYTES).done)

    with replaced(Records, "feed", fed):
        api.run(scene)
    assert breaths.most == PIECE_BYTES


@pytest.mark.parametrize(("owner", "name"), [(prepare, "read_row"), (catalog, "draft")])
def test_others_have_their_turn_while_rows_are_worked(
    api: InProcess, owner: Any, name: str
) -> None:
    breaths, original = Breaths(), getattr(owner, name)

    def did(*arguments: Any) -> Any:
        breaths.did()
        return original(*arguments)

    async def scene() -> httpx.Response:
        over = asyncio.Event()

        async def stop() -> None:
            over.set()

        with hooked(ImportRepository, "advance", BEFORE, stop):
            watch = asyncio.create_task(breaths.watch(over.is_set))
            answer = await sending(api, ndjson(row(uuid.uuid4().hex) for _ in range(100)))
            await watch
        return answer

    with replaced(owner, name, did):
        assert counts(ended(api, api.run(scene))) == (100, 0, 0, 0)
    assert breaths.most == ROWS_A_BREATH


def test_an_import_that_comes_while_the_worker_looks_is_not_left_for_later(api: InProcess) -> None:
    async def scene() -> httpx.Response:
        with paused(ImportRepository, "claimed", AFTER) as gate:
            api.resources.imports.wake()
            await gate.reached()
            answer = await sending(api, b"x\n")
            gate.open()
            return answer

    with replaced(worker, "LOOK_SECONDS", 3_600.0):
        assert counts(ended(api, api.run(scene))) == (0, 0, 0, 1)
        # Look again by the usual time.
    api.resources.imports.wake()


def test_old_imports_are_forgotten_however_busy_the_worker_is(api: InProcess) -> None:
    done: list[str] = []
    advance, sweep = ImportRepository.advance, ImportRepository.sweep_slices

    async def advanced(self: ImportRepository, *arguments: Any) -> None:
        done.append("slice")
        await advance(self, *arguments)

    async def swept(self: ImportRepository, before: datetime) -> int:
        done.append("sweep")
        return await sweep(self, before)

    with (
        replaced(worker, "SWEEP_SECONDS", 0.0),
        replaced(ImportRepository, "advance", advanced),
        replaced(ImportRepository, "sweep_slices", swept),
    ):
        ended(api, upload(api, b"x\n" * 1_100))
    assert done[: done.index("slice") + 5] == [
        *["sweep"] * done.index("slice"),
        *("slice", "sweep", "slice", "sweep", "slice"),
    ]


def test_a_slice_that_another_process_has_worked_is_no_reason_to_give_up(api: InProcess) -> None:
    async def fail(_tx: Transaction, _row: ImportRow) -> Counts | None:
        raise RuntimeError

    async def idle() -> bool:
        return False

    works = api.resources.imports.step
    ill = ImportWorker(
        api.resources.database,
        api.clock,
        api.resources.ids,
        fail,
        metrics=ImportMetrics(CollectorRegistry()),
        crash=CrashPoints(),
    )

    def fails() -> None:
        with pytest.raises(RuntimeError):
            api.run(ill.step)

    with replaced(api.resources.imports, "step", idle):
        answer = upload(api, b"x\n" * 600)
        for _ in range(ATTEMPTS_MAX - 1):
            fails()
        api.run(works)
        # The next slice has all its attempts yet.
        fails()
        assert api.get(answer.headers["location"]).json()["status"] == "running"
        while api.run(works):
            pass
    assert counts(ended(api, answer)) == (0, 0, 0, 600)


def test_a_process_that_gives_up_ends_nothing_that_another_has_brought_further(
    api: InProcess,
) -> None:
    row = ImportRow(uuid.uuid4(), None, "running", NDJSON, None, RequestContext("request"))

    async def work(tx: Transaction) -> list[str | None]:
        repository = ImportRepository(await tx.connection())
        seen: list[str | None] = []
        await repository.add(row, tx.now())
        await repository.advance(row.id, Counts(failed=3), tx.now())
        for counted in (0, 3):
            known = replace(row, counts=Counts(failed=counted))
            await repository.finish(known, "failed", tx.now())
            shown = await repository.shown(row.id)
            seen.append(None if shown is None else shown.status)
        return seen

    assert api.run(lambda: api.resources.database.run(row.context, work)) == ["running", "failed"]


@pytest.mark.parametrize("limit", ["UPLOAD_SECONDS_MAX", "IDLE_SECONDS_MAX"])
def test_an_upload_that_takes_too_long_is_given_up_and_leaves_nothing(
    api: InProcess, limit: str
) -> None:
    held = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield ndjson([row("slow")]) * 600
        if limit == "IDLE_SECONDS_MAX":
            await held.wait()

    with replaced(routes, limit, 0.0):
        answer = upload(api, body())
    assert (answer.status_code, answer.json()["code"]) == (408, "upload_incomplete")
    assert api.query("SELECT count(*) FROM import_slices") == [(0,)]


def test_a_file_whose_answer_expires_while_it_comes_again_must_be_sent_anew(api: InProcess) -> None:
    file, key = ndjson([row(uuid.uuid4().hex)]), uuid.uuid4().hex
    assert counts(ended(api, upload(api, file, key=key))) == (1, 0, 0, 0)

    async def body() -> AsyncIterator[bytes]:
        yield file
        later(api, KEPT.total_seconds() + 1)

    answer = upload(api, body(), key=key)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert counts(ended(api, upload(api, file, key=key))) == (0, 0, 1, 0)


def test_where_to_look_is_below_where_the_file_was_sent(api: InProcess) -> None:
    headers = {"Content-Type": NDJSON, "Idempotency-Key": uuid.uuid4().hex}
    answer = api.post("/api/v1/imports", content=b"x\n", headers=headers)
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/imports/{answer.json()['id']}"
    ended(api, answer)


def test_a_new_product_may_have_no_more_units_than_one_that_is_posted(api: InProcess) -> None:
    rows = [row(uuid.uuid4().hex, stock=units) for units in (STOCK_MAX, STOCK_MAX + 1)]
    shown = ended(api, upload(api, ndjson(rows)))
    assert counts(shown) == (1, 0, 0, 1)
    ((number, code, detail),) = errors(api, shown["id"])
    assert (number, code, detail.partition(":")[0]) == (2, "validation_failed", "/stock")


def test_all_events_of_a_slice_are_counted_by_each(api: InProcess) -> None:
    known, new = row(uuid.uuid4().hex, stock=5), row(uuid.uuid4().hex)
    slices = ([known], [known | {"price": 1, "stock": 0}, new, new | {"price": 2}])
    for rows in slices:
        ended(api, upload(api, ndjson(rows)))
    found = api.query(
        "SELECT count(*), min(txrows), max(txrows) FROM outbox o JOIN products p"
        " ON p.id::text = o.aggregateid WHERE sku = ANY(%s) GROUP BY txid ORDER BY min(seq)",
        [known["sku"], new["sku"]],
    )
    # The price, the new one, its price, the stock and that it is out.
    assert found == [(1, 1, 1), (5, 5, 5)]


def test_nothing_may_be_recorded_after_events_that_were_written_alone(api: InProcess) -> None:
    new = read_new(row(uuid.uuid4().hex, price=1), None)

    async def work(tx: Transaction) -> None:
        draft = catalog.draft(tx, Principal(), new)
        assert not await batch.create(tx.statements, [draft])
        tx.written()
        catalog.draft(tx, Principal(), new)

    with pytest.raises(ValueError, match="after the events"):
        api.run(lambda: api.resources.database.run(RequestContext("late"), work))
    assert api.query("SELECT count(*) FROM audit_log WHERE request_id = 'late'") == [(0,)]
