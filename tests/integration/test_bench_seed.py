"""Seeded products: many, varied, the same each time, and such as the API itself would store."""

import hashlib

import psycopg
import pytest
from tests.support.app import in_process
from tests.support.components import LocalComponents

from shopstream_stack.bench.seed import SELLER_PREFIX, seed_products
from shopstream_stack.bench.seed_words import CATEGORIES

COUNT = 3_000


def _seeded(url: str) -> str:
    """Seed a database; returns the digest of all rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        seed_products(connection, COUNT)
        rows = connection.execute("SELECT p::text FROM products p ORDER BY id").fetchall()
    assert len(rows) == COUNT
    return hashlib.sha256("\n".join(row for (row,) in rows).encode()).hexdigest()


def _indexes(url: str) -> list[tuple[str]]:
    with psycopg.connect(url, autocommit=True) as connection:
        found: list[tuple[str]] = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'products' ORDER BY indexname"
        ).fetchall()
    return found


@pytest.fixture(scope="module")
def first(session_components: LocalComponents) -> tuple[str, str]:
    """The address of a seeded database and the digest of what is in it."""
    with in_process(session_components, checked=False) as api:
        before = _indexes(api.database_url)
        digest = _seeded(api.database_url)
        assert _indexes(api.database_url) == before
        return api.database_url, digest


@pytest.fixture
def seeded(first: tuple[str, str]) -> str:
    """The address of a seeded database."""
    return first[0]


def test_two_seeded_databases_hold_the_same_products(
    session_components: LocalComponents, first: tuple[str, str]
) -> None:
    with in_process(session_components, checked=False) as api:
        assert _seeded(api.database_url) == first[1]


def test_seeded_products_are_varied(seeded: str) -> None:
    with psycopg.connect(seeded, autocommit=True) as connection:
        row = connection.execute(
            """
            SELECT count(DISTINCT w), count(DISTINCT seller_id), count(DISTINCT category),
                   count(DISTINCT currency), count(DISTINCT status), max(price) / min(price)
            FROM products, regexp_split_to_table(lower(name), ' ') w
            """
        ).fetchone()
    assert row is not None
    words, sellers, categories, currencies, statuses, span = row
    # A brand a product, hardly ever coined twice.
    assert words > 0.9 * COUNT
    assert sellers > 500
    assert (categories, currencies, statuses) == (len(CATEGORIES.split()), 3, 3)
    assert span > 1_000


def test_the_api_takes_a_seeded_product_as_one_it_has_written_itself(
    session_components: LocalComponents, seeded: str
) -> None:
    with in_process(session_components, database_url=seeded, checked=False) as api:
        page = api.get("/products", params={"limit": 100}).json()
        assert len(page["data"]) == 100
        moments = [row["createdAt"] for row in page["data"]]
        assert moments == sorted(moments, reverse=True)
        for shown in page["data"]:
            assert shown["sellerId"].startswith(SELLER_PREFIX)
            read_only = {"id", "version", "inventoryVersion", "priceMinor", "createdAt"}
            body = {k: v for k, v in shown.items() if k not in read_only | {"updatedAt"}}
            same = api.request("PUT", f"/products/{shown['id']}", json=body)
            assert (same.status_code, same.json()) == (200, shown)
