"""The API's rows: writes and reads, each on a database of their own."""

from shopstream_stack.bench.catalog import (
    fill_catalog,
    measure_pages,
    measure_reads,
    measure_search,
)
from shopstream_stack.bench.creates import measure_creates
from shopstream_stack.bench.imports import measure_imports
from shopstream_stack.bench.orders import measure_orders
from shopstream_stack.bench.place import Place
from shopstream_stack.bench.plan import Plan
from shopstream_stack.bench.result import Results


def measure_api(place: Place, plan: Plan, results: Results) -> None:
    """All measurements in turn."""
    place.use("writes")
    measure_creates(place, plan, results)
    measure_orders(place, plan, results)
    measure_imports(place, plan, results)
    place.use("catalog")
    last_page = fill_catalog(place, plan)
    measure_reads(place, plan, results)
    measure_pages(place, plan, results, last_page)
    measure_search(place, plan, results)
