"""POST /orders: many products, one hot product, and a hot product that runs out."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Final

from shopstream_stack.bench.creates import CREATED, JSON, create_products
from shopstream_stack.bench.evidence import Witness, differences, new_seller
from shopstream_stack.bench.load import LoadResult, LoadSpec, Request, run_load
from shopstream_stack.bench.place import Place
from shopstream_stack.bench.plan import Plan
from shopstream_stack.bench.result import Bar, Results, Row

HOT_RATE_MIN: Final = 60.0
PRODUCTS: Final = 1_000
LINES: Final = 3
#: Of products that must not run out.
PLENTY: Final = 10**6
#: Of the one that must, and how many buyers want one.
SCARCE: Final = 100
BUYERS: Final = 300
CONFLICT: Final = 409
#: What the ledger says differs from the stock, or the stock is below nothing.
_STOCK_FAULTS: Final = """
SELECT count(*) FROM products p
WHERE seller_id = %s AND (stock < 0 OR stock <> initial_stock + COALESCE(
    (SELECT sum(delta) FROM stock_movements m WHERE m.product_id = p.id), 0))
"""


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    products: int
    stock: int
    lines: int
    requests_max: int = 0
    expected: tuple[int, ...] = (CREATED,)


_SPREAD: Final = _Case(f"{LINES} lines over {PRODUCTS:,} products", PRODUCTS, PLENTY, LINES)
_HOT: Final = _Case("one hot product", 1, PLENTY, 1)
_SCARCE: Final = _Case(
    f"{BUYERS} buyers of a stock of {SCARCE}", 1, SCARCE, 1, BUYERS, (CREATED, CONFLICT)
)


def measure_orders(place: Place, plan: Plan, results: Results) -> None:
    """Adds a row a case; the relay publishes meanwhile."""
    place.start_relay()
    for case in (_SPREAD, _HOT, _SCARCE):
        name = f"POST /orders, {case.name}, {plan.order_connections} connections"
        with place.system.reporter.step(name):
            results.rows.append(_row(place, plan, case, name))


def _row(place: Place, plan: Plan, case: _Case, name: str) -> Row:
    seller = new_seller("order")
    products = create_products(place, seller, case.products, stock=case.stock)
    place.drain()
    place.settle()
    witness = Witness.before(place)
    result = _load(place, plan, case, products)
    waiting = place.waiting_events()
    place.drain()
    faults = [*result.unexpected(case.expected), *_faults(witness, seller, result, case)]
    report = result.report
    figures = {
        "rate": report.by_status.get(CREATED, 0) / report.seconds,
        "p50Ms": report.p50_ms,
        "p95Ms": report.p95_ms,
        "p99Ms": report.p99_ms,
        "acknowledged": float(len(result.created)),
        "waitingEventsMax": float(waiting),
    }
    if case is _SCARCE:
        bars: tuple[Bar, ...] = (Bar("sold", len(result.created), "==", SCARCE),)
    elif case is _HOT:
        bars = (Bar("orders/s", figures["rate"], ">=", HOT_RATE_MIN),)
    else:
        bars = ()
    return Row(name, figures, bars, tuple(faults))


def _load(place: Place, plan: Plan, case: _Case, products: list[str]) -> LoadResult:
    lines = [{"productId": "{{id}}", "quantity": 1} for _ in range(case.lines)]
    body = json.dumps({"customerId": "customer-{{n}}", "items": lines})
    limited = case.requests_max > 0
    spec = LoadSpec(
        address=place.address,
        connections=plan.order_connections,
        warmup_seconds=0 if limited else plan.warmup_seconds,
        seconds=plan.seconds * (10 if limited else 1),
        requests_max=case.requests_max,
        requests=[Request(method="POST", path="/orders", headers=JSON, body=body)],
        lists={"id": products},
        expected=case.expected,
    )
    return run_load(place.load, spec, place.folder / "locations")


def _faults(witness: Witness, seller: str, result: LoadResult, case: _Case) -> list[str]:
    """Orders = rows = events; a reservation a line; as many units gone as were ordered."""
    place, units = witness.place, len(result.created) * case.lines
    with place.connect() as connection:
        rows = connection.execute(
            "SELECT id::text FROM orders WHERE seller_id = %s", (seller,)
        ).fetchall()
    faults = differences("orders", result.created, [row for (row,) in rows])
    published = witness.published()[seller]
    # The products were created before the witness looked.
    audited = Counter(
        {fact: n for fact, n in witness.audited(seller).items() if fact.type != "product.created"}
    )
    if published != audited:
        faults.append(
            f"{(published - audited).total()} events on the log beyond event_audit, "
            f"{(audited - published).total()} missing"
        )
    placed = [fact.subject for fact in published.elements() if fact.type == "order.created"]
    faults += differences("order.created", result.created, placed)
    reserved = sum(n for fact, n in published.items() if fact.type == "inventory.reserved")
    if reserved != units:
        faults.append(f"{reserved} inventory.reserved, not {units}")
    if wrong := place.value(_STOCK_FAULTS, seller):
        faults.append(f"the stock of {wrong} products is not what the ledger says")
    taken = place.value(
        "SELECT sum(initial_stock - stock) FROM products WHERE seller_id = %s", seller
    )
    return faults if taken == units else [*faults, f"{taken} units were taken, not {units}"]
