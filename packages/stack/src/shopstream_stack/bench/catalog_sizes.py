"""How long a list page, a search and a write take when there are few products or many."""

from typing import Final

from shopstream_stack.bench.catalog import PAGE_ROWS, Case, in_turns, searches
from shopstream_stack.bench.creates import CREATED, create_load
from shopstream_stack.bench.evidence import differences, new_seller
from shopstream_stack.bench.load import Request
from shopstream_stack.bench.place import Place
from shopstream_stack.bench.plan import Plan
from shopstream_stack.bench.result import Point, Results, Row
from shopstream_stack.bench.seed import seed_products

#: Of the searches: words that few products have, and words that many have.
SEARCHED: Final = ("a rare word", "two words")


def measure_table_sizes(place: Place, plan: Plan, results: Results) -> None:
    """Adds a row for each size and kind of request: p50 at as many connections as pages have.

    The relay stands still. Raises StackError.
    """
    for size in plan.table_sizes:
        place.use("catalog" if size == plan.products else f"rows-{size}")
        with place.system.reporter.step(f"The API over {size:,} products"):
            _fill(place, size)
            _reads(place, plan, size, results)
            _writes(place, plan, size, results)


def _fill(place: Place, size: int) -> None:
    there = int(place.value("SELECT count(*) FROM products"))
    with place.connect() as connection:
        if there < size:
            seed_products(connection, size - there, first=there)
    place.settle()


def _reads(place: Place, plan: Plan, size: int, results: Results) -> None:
    found = {case.name: case for case in searches(place)}
    page = Case("a page of the list", Request(path=f"/products?limit={PAGE_ROWS}"))
    cases = (page, *(found[name] for name in SEARCHED))
    measured = in_turns(
        place, plan, cases, connections=plan.page_connections, seconds=plan.page_seconds
    )
    for case, one in zip(cases, measured, strict=True):
        line = case.name if case is page else f"search, {case.name}"
        results.rows.append(_row(line, size, one.figures(), one.faults))


def _writes(place: Place, plan: Plan, size: int, results: Results) -> None:
    seller = new_seller("rows")
    result = create_load(place, plan, plan.page_connections, seller, seconds=plan.page_seconds)
    with place.connect() as connection:
        rows = connection.execute(
            "SELECT id::text FROM products WHERE seller_id = %s", (seller,)
        ).fetchall()
    faults = [
        *result.unexpected((CREATED,)),
        *differences("rows in products", result.created, [i for (i,) in rows]),
    ]
    results.rows.append(_row("POST /products", size, result.report.figures(), tuple(faults)))


def _row(line: str, size: int, figures: dict[str, float], faults: tuple[str, ...]) -> Row:
    points = (Point("rows", line, size, figures["p50Ms"]),)
    return Row(f"Of {size:,} products: {line}", figures, (), faults, points=points)
