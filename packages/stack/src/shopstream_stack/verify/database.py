"""PostgreSQL as the check reads it: one REPEATABLE READ snapshot, copied out as CSV."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from pydantic import SecretStr

from shopstream_shared.boundaries import Boundary
from shopstream_stack.errors import StackError
from shopstream_stack.verify.spool import Spool

CONNECT_SECONDS_MAX: Final = 5

AUDIT: Final = {
    "topic": "VARCHAR",
    "subject": "VARCHAR",
    "sequence": "BIGINT",
    "event_id": "VARCHAR",
    "type": "VARCHAR",
    "seller": "VARCHAR",
    "time": "BIGINT",
    "amount": "BIGINT",
    "currency": "VARCHAR",
    "digest": "UUID",
}
_AUDIT: Final = """
    SELECT topic, subject, sequence, event_id, type, seller_id,
           CAST(extract(epoch FROM time) * 1000000 AS bigint),
           coalesce(amount_minor, 0), coalesce(currency, ''),
           encode(substring(sha256 FROM 1 FOR 16), 'hex')
    FROM event_audit
"""
VERSIONS: Final = {"topic": "VARCHAR", "subject": "VARCHAR", "version": "BIGINT"}
_VERSIONS: Final = """
    SELECT 'shop.products', id, version FROM products
    UNION ALL
    SELECT 'shop.inventory', id, inventory_version FROM products WHERE inventory_version > 0
    UNION ALL
    SELECT 'shop.orders', id, version FROM orders
"""
#: Sums by seller, from the state and not from its events; named as aggregates name them.
SUMS: Final = {"seller": "VARCHAR", "name": "VARCHAR", "value": "HUGEINT"}
_SUMS: Final = """
    SELECT seller_id, 'orders', count(*) FROM orders GROUP BY 1
    UNION ALL
    SELECT o.seller_id, 'units', sum(i.quantity)
    FROM orders o JOIN order_items i ON i.order_id = o.id GROUP BY 1
    UNION ALL
    SELECT seller_id, 'cancelled', count(*) FROM orders WHERE status = 'cancelled' GROUP BY 1
    UNION ALL
    SELECT seller_id, 'revenueMinor#' || currency, sum(total_minor - refunded_minor)
    FROM orders WHERE status IN ('paid', 'shipped', 'delivered', 'refunded') GROUP BY 1, 2
    UNION ALL
    SELECT seller_id, 'products', count(*) FROM products GROUP BY 1
    UNION ALL
    SELECT seller_id, 'deleted', count(*) FROM products WHERE deleted_at IS NOT NULL GROUP BY 1
"""
#: Events that are not on the log yet, or never will be.
WAITING: Final = {"topic": "VARCHAR", "subject": "VARCHAR", "event_id": "VARCHAR"}
_WAITING: Final = "SELECT topic, aggregateid, id FROM outbox WHERE seq <= {last}"
POISON: Final = {**WAITING, "reason": "VARCHAR"}
_BOUNDARIES: Final = (
    "SELECT topic, topic_id, partitions, ends FROM topic_boundaries ORDER BY at, partitions"
)
_POISON: Final = "SELECT topic, aggregateid, id, reason FROM outbox_poison"


class Snapshot:
    """What the database held at one moment; lasts as long as its transaction."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        #: The last row of the outbox: what is at or below it must be published.
        self.last_seq = int(self.row("SELECT coalesce(max(seq), 0) FROM outbox")[0])

    def row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The one row of a query."""
        return self.rows(query, values)[0]

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query that gives few."""
        return self._connection.execute(query.encode(), values or None).fetchall()

    def boundaries(self) -> list[Boundary]:
        """Where topics got more partitions, in whichever life, oldest first (protocol rule 14)."""
        return [
            Boundary(topic, topic_id, partitions, tuple(ends))
            for topic, topic_id, partitions, ends in self.rows(_BOUNDARIES)
        ]

    def copy_into(self, spool: Spool) -> None:
        """Fill the tables ``audit``, ``versions`` and ``sums``."""
        _copy(self._connection, spool, "audit", AUDIT, _AUDIT)
        _copy(self._connection, spool, "versions", VERSIONS, _VERSIONS)
        _copy(self._connection, spool, "sums", SUMS, _SUMS)


class Database:
    """The API's database; reads only. Raises StackError when it does not answer."""

    def __init__(self, url: SecretStr) -> None:
        # SQLAlchemy's spelling names a driver; libpq knows none.
        self._url = url.get_secret_value().replace("postgresql+psycopg://", "postgresql://")

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """One snapshot for the length of the block."""
        with self._connected() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # Waits of ours pass in this transaction.
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield Snapshot(connection)

    def waiting(self, last_seq: int) -> int:
        """How many rows up to this one are still in the outbox now."""
        with self._connected() as connection:
            query = "SELECT count(*) FROM outbox WHERE seq <= %s"
            found = connection.execute(query, (last_seq,)).fetchone()
        return int(found[0]) if found else 0

    def unpublished_into(self, spool: Spool, last_seq: int) -> None:
        """Fill the tables ``waiting`` and ``poison`` with what is not published now."""
        with self._connected() as connection:
            _copy(connection, spool, "waiting", WAITING, _WAITING.format(last=int(last_seq)))
            _copy(connection, spool, "poison", POISON, _POISON)

    @contextmanager
    def _connected(self) -> Iterator["psycopg.Connection[Any]"]:
        try:
            with psycopg.connect(self._url, connect_timeout=CONNECT_SECONDS_MAX) as connection:
                yield connection
        except psycopg.Error as error:
            where = psycopg.conninfo.conninfo_to_dict(self._url)
            place = f"{where.get('host')}:{where.get('port', 5432)}/{where.get('dbname')}"
            # The first line says what; the rest is the server's hints.
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise StackError(f"PostgreSQL at {place} cannot be read: {reason[0]}") from error


def _copy(
    connection: "psycopg.Connection[Any]",
    spool: Spool,
    table: str,
    columns: dict[str, str],
    query: str,
) -> None:
    statement = f"COPY ({query}) TO STDOUT (FORMAT csv)".encode()
    with (
        spool.table(table, columns) as sink,
        connection.cursor() as cursor,
        cursor.copy(statement) as rows,
    ):
        # The server sends a row a message.
        sink.add_csv(map(bytes, rows))
