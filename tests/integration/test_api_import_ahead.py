"""The next slice of new products is made ready while one is written, and never used wrongly."""

import uuid
from collections.abc import Iterator
from typing import Any, Final

import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents
from tests.support.imports import counts, ended, ndjson, row, sending
from tests.support.races import AFTER, BEFORE, hooked, replaced

from shopstream_api.catalog.batch import ROWS_MAX
from shopstream_api.imports import prepare
from shopstream_api.imports.repository import ImportRepository

#: Three slices and a few rows more.
ROWS: Final = 3 * ROWS_MAX + 10


@pytest.fixture
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as app:
        yield app


@pytest.fixture
def steps() -> Iterator[list[str]]:
    """What is done, in its order: rows drafted, slices taken and counted."""
    done: list[str] = []
    drafted, advance = prepare.drafted, ImportRepository.advance

    async def noted(record: Any, rows: Any) -> prepare.Drafted:
        done.append(f"drafted {rows[0].number}")
        return await drafted(record, rows)

    async def counted(self: ImportRepository, *arguments: Any) -> None:
        done.append("counted")
        await advance(self, *arguments)

    with replaced(prepare, "drafted", noted), replaced(ImportRepository, "advance", counted):
        yield done


def _skus() -> list[str]:
    name = uuid.uuid4().hex
    return [f"{name}-{n}" for n in range(ROWS)]


def _import(api: InProcess, skus: list[str]) -> tuple[int, int, int, int]:
    async def scene() -> Any:
        return await sending(api, ndjson(row(sku) for sku in skus))

    return counts(ended(api, api.run(scene)))


def test_the_next_slice_is_ready_before_this_one_is_counted(
    api: InProcess, steps: list[str]
) -> None:
    assert _import(api, _skus()) == (ROWS, 0, 0, 0)
    # The first slice has none before it that said what to expect.
    assert steps == [
        "counted",
        f"drafted {2 * ROWS_MAX + 1}",
        "counted",
        f"drafted {3 * ROWS_MAX + 1}",
        "counted",
        "counted",
    ]
    assert api.query("SELECT count(*), count(DISTINCT subject) FROM event_audit") == [(ROWS, ROWS)]


def test_what_is_there_already_is_not_made_ready(api: InProcess, steps: list[str]) -> None:
    skus = _skus()
    _import(api, skus)
    steps.clear()
    assert _import(api, skus) == (0, 0, ROWS, 0)
    assert steps == ["counted"] * 4


def test_a_product_that_comes_after_its_row_was_made_ready_is_replaced_not_doubled(
    api: InProcess,
) -> None:
    skus = _skus()
    taken = skus[2 * ROWS_MAX]

    async def take() -> None:
        await api.client.post("/products", json=row(taken, name="Another's"))

    with hooked(ImportRepository, "claimed", BEFORE, take, call=3):
        assert _import(api, skus) == (ROWS - 1, 1, 0, 0)
    found = api.query("SELECT name, version FROM products WHERE sku = %s", taken)
    assert found == [(f"Product {taken}", 2)]


def test_a_slice_that_is_worked_again_is_made_anew(api: InProcess) -> None:
    async def fail() -> None:
        raise ConnectionError

    with hooked(ImportRepository, "advance", AFTER, fail, call=3):
        assert _import(api, _skus()) == (ROWS, 0, 0, 0)
    assert api.query("SELECT count(*), count(DISTINCT subject) FROM event_audit") == [(ROWS, ROWS)]
