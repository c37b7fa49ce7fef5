"""Monthly partitions of orders and their lines (ADR 9): what is missing, and how one is made.

- A partition holds the ids of one month in UTC: UUIDv7 starts with 48 bits of milliseconds, so the
  bound of a month is its first millisecond followed by zeros.
- ``<table>_default`` takes all ids without a partition, so that no insert fails. What lies there
  of a month whose partition is made is moved by the transaction that makes it.
- That transaction locks the whole table: a reader that had planned before and ran after it would
  look for a moved row where it no longer is. It waits LOCK_WAIT_MS for the lock and then gives up,
  for requests queue behind it: less than PostgreSQL's `deadlock_timeout` of 1 s, so that this
  transaction is the one to give way.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import islice
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from shopstream_shared.clock import epoch_ms

#: The partitioned tables, and the column that holds the order's id.
KEYS: Final = {"orders": "id", "order_items": "order_id"}
#: How many months beyond the present one have their partition.
AHEAD_MONTHS: Final = 3
#: Before this there was no order of ours: an older id is no UUIDv7, and stays in the default.
EARLIEST: Final = date(2020, 1, 1)
LOCK_WAIT_MS: Final = 500
#: A fixed number nobody else uses: "shoppart" in ASCII, as a signed 64-bit integer.
PARTITION_LOCK: Final = int.from_bytes(b"shoppart")

_MILLISECONDS_SHIFT: Final = 80


def month_of(moment: datetime) -> date:
    """The month of a moment, by its first day in UTC."""
    return moment.astimezone(UTC).date().replace(day=1)


def following(month: date) -> date:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def wanted(now: datetime) -> list[date]:
    """The months that must have partitions: this one and AHEAD_MONTHS more."""
    return list(islice(_months_from(month_of(now)), AHEAD_MONTHS + 1))


def first_id(month: date) -> UUID:
    """The lowest id of a month."""
    start = datetime(month.year, month.month, month.day, tzinfo=UTC)
    return UUID(int=epoch_ms(start) << _MILLISECONDS_SHIFT)


def partition_of(table: str, month: date) -> str:
    return f"{table}_{month:%Y_%m}"


def covered(connection: Connection, now: datetime) -> date | None:
    """The last of the wanted months up to which every table has its partitions."""
    made = {table: _made(connection, table) for table in KEYS}
    last = None
    for month in wanted(now):
        if any(partition_of(table, month) not in made[table] for table in KEYS):
            break
        last = month
    return last


def missing(connection: Connection, now: datetime) -> list[tuple[str, date]]:
    """(table, month) of partitions to make: the wanted ones, and those of rows in the default."""
    found = []
    for table, key in KEYS.items():
        made = _made(connection, table)
        months = {month for month in wanted(now) if partition_of(table, month) not in made}
        months.update(_astray(connection, table, key, following(wanted(now)[-1])))
        found += [(table, month) for month in sorted(months)]
    return found


def make(connection: Connection, table: str, month: date) -> int:
    """Make one partition within the caller's transaction; returns how many rows it took over.

    Nothing is done when it is there. Raises SQLAlchemy's OperationalError when the lock cannot be
    had in LOCK_WAIT_MS.
    """
    connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}"))
    # Another process at the same partition: whoever comes second finds it made.
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": PARTITION_LOCK})
    name, key = partition_of(table, month), KEYS[table]
    if name in _made(connection, table):
        return 0
    low, high = first_id(month), first_id(following(month))
    connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
    connection.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)"))
    moved = connection.execute(
        text(
            f"WITH gone AS (DELETE FROM {table}_default"  # noqa: S608 - names of KEYS only
            f" WHERE {key} >= :low AND {key} < :high RETURNING *)"
            f" INSERT INTO {name} SELECT * FROM gone"
        ),
        {"low": low, "high": high},
    )
    connection.execute(
        text(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')")
    )
    return moved.rowcount


def _months_from(month: date) -> Iterator[date]:
    while True:
        yield month
        month = following(month)


def _made(connection: Connection, table: str) -> set[str]:
    """Names of a table's partitions, by the statement's snapshot: name look-ups may be stale."""
    found = connection.execute(
        text(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = CAST(:table AS regclass)"
        ),
        {"table": table},
    )
    return set(found.scalars())


def _astray(connection: Connection, table: str, key: str, until: date) -> Iterator[date]:
    """Months before ``until`` of which rows lie in the default; an index step a month."""
    statement = text(
        f"SELECT {key} FROM {table}_default"  # noqa: S608 - names of KEYS only
        f" WHERE {key} >= :low AND {key} < :high ORDER BY {key} LIMIT 1"
    )
    month = EARLIEST
    while month < until:
        bounds = {"low": first_id(month), "high": first_id(until)}
        found: UUID | None = connection.execute(statement, bounds).scalar_one_or_none()
        if found is None:
            return
        seconds = (found.int >> _MILLISECONDS_SHIFT) // 1000
        month = month_of(datetime.fromtimestamp(seconds, UTC))
        yield month
        month = following(month)
