"""The floor: pgbench with scripts that do to PostgreSQL what a request has done to it."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from shopstream_stack.bench.place import Place
from shopstream_stack.errors import StackError

#: Threads of pgbench: measured at 64 clients, two reach some 10% more than one.
THREADS: Final = 2
GRACE_SECONDS: Final = 60.0
_TPS: Final = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)$", re.MULTILINE)
#: What POST /products writes, in the order in which it is written.
TABLES: Final = ("products", "outbox", "event_audit", "audit_log")
_COLUMNS: Final = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
  AND attgenerated = '' AND attidentity = ''
ORDER BY attnum
"""
#: Columns that cannot repeat the template row's value, by name, then by type.
_BY_NAME: Final = {
    "aggregateid": "uuidv7()::text",
    "txid": "pg_current_xact_id()::text::bigint",
    "seller_id": "'floor'",
}
_BY_TYPE: Final = {"uuid": "uuidv7()", "timestamp with time zone": "now()"}


def run_pgbench(place: Place, scripts: Sequence[Path], *, clients: int, seconds: float) -> float:
    """Transactions a second, prepared statements, connecting left out. Raises StackError."""
    argv = [str(place.pgbench), "--no-vacuum", "--protocol=prepared"]
    argv += [f"--client={clients}", f"--jobs={THREADS}", f"--time={max(1, round(seconds))}"]
    argv += [f"--file={script}" for script in scripts]
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [*argv, place.database_url],
            capture_output=True,
            text=True,
            timeout=seconds + GRACE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError("pgbench did not come to an end") from error
    found = _TPS.search(done.stdout)
    if done.returncode != 0 or found is None:
        raise StackError(f"pgbench failed:\n{done.stderr[-2000:]}")
    return float(found[1])


def insert_scripts(place: Place) -> dict[str, str]:
    """Scripts by name: a transaction that inserts what one POST /products has inserted.

    The template is the newest row of each table; ids, times and the seller are the script's own.
    """
    with place.connect() as connection:
        inserts = [_insert(connection, table) for table in TABLES]
    pipeline = ["\\startpipeline", "BEGIN;", *(f"{insert};" for insert in inserts)]
    pipeline += ["COMMIT;", "\\endpipeline"]
    parts = [f"i{n} AS ({insert})" for n, insert in enumerate(inserts[:-1])]
    return {
        "four statements in a pipeline": "\n".join(pipeline) + "\n",
        "one statement": f"WITH {', '.join(parts)} {inserts[-1]};\n",
    }


def _insert(connection: psycopg.Connection[Any], table: str) -> str:
    columns = connection.execute(_COLUMNS, (table,)).fetchall()
    names = sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns)
    select = sql.SQL("SELECT {} FROM {} ORDER BY ctid DESC LIMIT 1")
    row = connection.execute(select.format(names, sql.Identifier(table))).fetchone()
    if row is None:
        raise StackError(f"{table} has no row to take as the template")
    values = sql.SQL(", ").join(
        sql.SQL(_expression(connection, name, kind, value))
        for (name, kind), value in zip(columns, row, strict=True)
    )
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})")
    return insert.format(sql.Identifier(table), names, values).as_string(connection)


def _expression(connection: psycopg.Connection[Any], name: str, kind: str, value: object) -> str:
    if value is None:
        return "NULL"
    text = sql.Literal(value).as_string(connection).partition("::")[0]
    made = _BY_NAME.get(name) or _BY_TYPE.get(kind)
    if made is None and ":" in text:
        raise StackError(f"pgbench would take {text} for one of its variables")
    return made or f"{text}::{kind}"


def select_scripts(place: Place, ids: Sequence[str]) -> list[str]:
    """A script an id: read the whole product by its key."""
    with place.connect() as connection:
        columns = connection.execute(_COLUMNS, ("products",)).fetchall()
        select = sql.SQL("SELECT {} FROM products WHERE id = {};\n")
        names = sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns)
        return [select.format(names, sql.Literal(one)).as_string(connection) for one in ids]
