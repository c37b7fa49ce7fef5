"""Invariants 6 and 8, which PostgreSQL judges in the snapshot itself."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from shopstream_stack.verify.database import Snapshot
from shopstream_stack.verify.report import SHOWN_MAX, Invariant, Violation
from shopstream_stack.verify.spool import Spool

#: Ids asked for in one statement.
ASK_MAX: Final = 5_000

# Each gives what it found in all, and the first: product, expected, seen.
_STOCK: Final[Mapping[str, str]] = {
    "off its ledger": """
        SELECT p.id, p.initial_stock || ' at first and '
                     || coalesce(sum(m.delta), 0) || ' by the ledger', 'stock ' || p.stock
        FROM products p LEFT JOIN stock_movements m ON m.product_id = p.id
        GROUP BY p.id HAVING p.stock <> p.initial_stock + coalesce(sum(m.delta), 0)
    """,
    "negative": """
        SELECT id, 'stock from 0 on', 'stock ' || stock FROM products
        WHERE stock < 0 OR initial_stock < 0
        UNION ALL
        SELECT product_id, 'stock from 0 on',
               'stock ' || stock || ' after inventory version ' || inventory_version
        FROM stock_movements WHERE stock < 0
    """,
    "off its reservations": """
        SELECT p.id, coalesce(sum(r.quantity), 0) || ' reserved', 'reserved ' || p.reserved
        FROM products p LEFT JOIN reservations r ON r.product_id = p.id AND r.status = 'active'
        GROUP BY p.id HAVING p.reserved <> coalesce(sum(r.quantity), 0)
    """,
}


class _There(NamedTuple):
    """How a kind of thing is looked up, and what an acknowledged write wants of it."""

    table: str
    #: What the row says, compared with what was acknowledged.
    version: str
    wanted: str


_THERE: Final[Mapping[str, _There]] = {
    "product": _There("products", "version", "version {}"),
    "inventory": _There("products", "inventory_version", "inventory version {}"),
    "order": _There("orders", "version", "version {}"),
    "reservation": _There("reservations", "0", "there"),
    "deleted": _There("products", "CASE WHEN deleted_at IS NULL THEN -1 ELSE 0 END", "deleted"),
    "released": _There("reservations", "CASE status WHEN 'active' THEN -1 ELSE 0 END", "released"),
}


def stock(snapshot: Snapshot, row: Invariant) -> None:
    """Invariant 6."""
    row.look_for(*_STOCK)
    products, movements, held = snapshot.row(
        "SELECT (SELECT count(*) FROM products), (SELECT count(*) FROM stock_movements), "
        "(SELECT count(*) FROM reservations WHERE status = 'active')"
    )
    row.counted |= {"products": products, "ledger rows": movements, "active reservations": held}
    for kind, query in _STOCK.items():
        found = snapshot.rows(
            f"SELECT count(*) OVER (), f.* FROM ({query}) AS f ORDER BY 2 LIMIT {SHOWN_MAX}"  # noqa: S608 - the queries above
        )
        row.found_all(
            kind,
            found[0][0] if found else 0,
            [
                Violation(kind=kind, aggregate=f"product {product}", expected=expected, seen=seen)
                for _, product, expected, seen in found
            ],
        )


def acknowledged(spool: Spool, snapshot: Snapshot, row: Invariant) -> None:
    """Invariant 8."""
    row.look_for("missing")
    promises = spool.stream(
        "SELECT kind, id, max(version), arg_max(place, version) FROM acknowledged GROUP BY kind, id"
    )
    waiting: defaultdict[str, list[tuple[str, int, str]]] = defaultdict(list)
    for kind, name, version, place in promises:
        waiting[kind].append((name, version, place))
        if len(waiting[kind]) >= ASK_MAX:
            _look_up(snapshot, row, kind, waiting.pop(kind))
    for kind, rest in waiting.items():
        _look_up(snapshot, row, kind, rest)


def _look_up(
    snapshot: Snapshot, row: Invariant, kind: str, promises: list[tuple[str, int, str]]
) -> None:
    there = _THERE[kind]
    # What is no UUID is no id of ours, so it is not there.
    query = f"""
        SELECT w.id, w.version, w.place, t.version
        FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS w (id, version, place)
        LEFT JOIN LATERAL (
            SELECT {there.version} AS version FROM {there.table}
            WHERE id = CASE WHEN w.id ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
                            THEN CAST(w.id AS uuid) END
        ) AS t ON true
        WHERE t.version IS NULL OR t.version < w.version
        ORDER BY w.id
    """  # noqa: S608 - the tables above
    columns: list[list[Any]] = [list(column) for column in zip(*promises, strict=True)]
    for name, version, place, seen in snapshot.rows(query, columns):
        row.found(
            Violation(
                kind="missing",
                aggregate=f"{kind} {name}",
                expected=there.wanted.format(version),
                seen=_said(there, seen),
                place=place,
            )
        )


def _said(there: _There, seen: int | None) -> str:
    if seen is None:
        return "nothing"
    return there.wanted.format(seen) if "{}" in there.wanted else f"not {there.wanted}"
