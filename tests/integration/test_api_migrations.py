"""Migrations: up, down and up with data, several at once, under old code; tables as described."""

import ast
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from tests.support import invariants
from tests.support.api import ApiProcess
from tests.support.app import in_process
from tests.support.components import LocalComponents
from tests.support.frozen import GOLDEN_SQL, replay
from tests.support.lived import live

from shopstream_api.db.metadata import metadata
from shopstream_api.db.migrate import downgrade, migrate
from shopstream_api.db.migrations import versions
from shopstream_api.db.revision import is_current
from shopstream_api.schema import TABLES

DESCRIBED = {table.name for table in TABLES}
FILES = sorted(Path(versions.__path__[0]).glob("[0-9][0-9][0-9][0-9]_*.py"))
REVISIONS = [path.name[:4] for path in FILES]
#: Of a release that is not yet written.
NEWER = "9999"


@pytest.fixture
def url(components: LocalComponents) -> str:
    components.up("postgres")
    return components.fresh_database()


@pytest.mark.parametrize("file", FILES, ids=REVISIONS)
def test_a_migration_imports_none_of_our_code_so_it_does_not_change_with_it(file: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    assert {name.partition(".")[0] for name in imported} <= {"alembic", "sqlalchemy", "typing"}


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


@pytest.mark.parametrize("release", sorted(path.stem for path in GOLDEN_SQL.glob("*.json")))
def test_what_a_release_executes_works_on_every_later_schema(
    components: LocalComponents, release: str
) -> None:
    components.up("postgres")
    for revision in REVISIONS[REVISIONS.index(release) :]:
        url = components.fresh_database()
        migrate(url, revision)

        assert replay(url, GOLDEN_SQL / f"{release}.json") == [], revision
    assert invariants.holds(url) == []


def test_rows_survive_every_step_up_down_and_up_again(url: str) -> None:
    first = REVISIONS[0]
    migrate(url, first)
    assert replay(url, GOLDEN_SQL / f"{first}.json") == []
    columns = _columns(url)
    before = _contents(url, columns)

    for revision in (*REVISIONS[1:], *reversed(REVISIONS[:-1]), "head"):
        move = downgrade if revision < _revision(url) else migrate
        move(url, revision)
        assert _contents(url, columns) == before, revision

    assert is_current(url)
    assert invariants.holds(url) == []


def test_what_todays_code_wrote_survives_the_way_down_to_old_code_and_up_again(
    components: LocalComponents,
) -> None:
    with in_process(components) as app:
        live(app)
        url = app.database_url
    newest = _contents(url, _columns(url))

    downgrade(url, REVISIONS[0])
    columns = _columns(url)
    oldest = _contents(url, columns)
    migrate(url)

    assert _contents(url, columns) == oldest
    assert _contents(url, _columns(url)) == newest
    assert invariants.holds(url) == []


def test_code_leaves_a_newer_schema_alone_and_takes_it_for_current(url: str) -> None:
    migrate(url)
    _stamp(url, NEWER)

    migrate(url)

    assert is_current(url)
    assert _revision(url) == NEWER


@pytest.mark.parametrize("migrates", ["true", "false"])
def test_an_old_process_serves_on_a_newer_schema(
    components: LocalComponents, migrates: str
) -> None:
    components.up("postgres")
    empty = {"DATABASE_URL": components.fresh_database(), "SHOPSTREAM_MIGRATE": "true"}
    with ApiProcess.beside(components, SHOPSTREAM_RELAY="off", **empty) as api:
        product = api.product()
        api.kill()
        _stamp(api.database_url, NEWER)
        api.start(SHOPSTREAM_MIGRATE=migrates)

        assert api.client.get(f"/products/{product['id']}").json() == product
        assert api.product()["version"] == 1


def _revision(url: str) -> str:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert found is not None
    return str(found[0])


def _stamp(url: str, revision: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (revision,))


def _columns(url: str) -> dict[str, list[str]]:
    """The columns of every table, partitions apart: they are read through their tables."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT c.relname, array_agg(a.attname ORDER BY a.attname)"
            " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
            " AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped"
            " AND c.relname <> 'alembic_version' GROUP BY c.relname"
        ).fetchall()
    return {table: [str(name) for name in names] for table, names in found}


def _contents(url: str, columns: dict[str, list[str]]) -> dict[str, list[str]]:
    """All rows of these columns as text, in an order of their own."""
    with psycopg.connect(url) as connection:
        return {
            table: sorted(
                row[0]
                for row in connection.execute(
                    sql.SQL("SELECT ROW({})::text FROM {}").format(
                        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table)
                    )
                )
            )
            for table, names in columns.items()
        }


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
