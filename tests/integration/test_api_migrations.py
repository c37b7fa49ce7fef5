"""Migrations: up, down, up again, several at once; and tables as the code describes them."""

import threading
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from tests.support.components import LocalComponents

from shopstream_api.db.metadata import metadata
from shopstream_api.db.migrate import downgrade, is_current, migrate
from shopstream_api.schema import TABLES

DESCRIBED = {table.name for table in TABLES}


@pytest.fixture
def url(components: LocalComponents) -> str:
    components.up("postgres")
    return components.fresh_database()


def test_the_migrated_tables_are_those_the_code_describes(url: str) -> None:
    migrate(url)
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool
    )
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": _described})
        assert compare_metadata(context, metadata) == []


def test_migrations_go_up_down_and_up_again(url: str) -> None:
    migrate(url)
    assert is_current(url)
    downgrade(url, "base")
    assert not is_current(url)
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
    assert tables == [("alembic_version",)]
    migrate(url)
    assert is_current(url)


def test_several_processes_may_migrate_at_once(url: str) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            migrate(url)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert is_current(url)


def _described(
    item: Any,
    name: str | None,
    kind: str,
    *_reflected_and_compared: Any,
) -> bool:
    """Tables that only SQL knows (the outbox and its state) and all indexes are the migration's."""
    if kind == "table":
        return name in DESCRIBED
    return kind == "column"
