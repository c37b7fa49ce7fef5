"""Reads at a million products: one by id beside pgbench's select, list pages, search."""

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus

import httpx

from shopstream_stack.bench.load import LoadReport, LoadSpec, Request, run_load
from shopstream_stack.bench.pgbench import run_pgbench, select_scripts
from shopstream_stack.bench.place import Place
from shopstream_stack.bench.plan import Plan
from shopstream_stack.bench.result import Bar, Results, Row
from shopstream_stack.bench.seed import seed_products

GET_RATIO_MIN: Final = 0.15
PAGE_P95_MS_MAX: Final = 40.0
SEARCH_P95_MS_MAX: Final = 100.0
#: The last page may take this much more than the first.
LAST_PAGE_MAX: Final = 1.2
PAGE_ROWS: Final = 50
#: Products that are read by id, and words that are searched.
IDS_MAX: Final = 5_000
WORDS_MAX: Final = 500
#: pgbench takes up to 128 scripts; it knows no other way to a random id.
SCRIPTS: Final = 100
REQUEST_SECONDS_MAX: Final = 60.0
OK: Final = 200
NOT_MODIFIED: Final = 304
#: Every seeded product is as it was created.
FIRST_ETAG: Final = '"v1.0"'


@dataclass(frozen=True, slots=True)
class Case:
    """Requests of one kind that are measured together."""

    name: str
    request: Request
    expected: int = OK
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """A case's reports, a turn each, and what was wrong."""

    reports: list[LoadReport]
    faults: tuple[str, ...]

    def median(self, figure: Callable[[LoadReport], float]) -> float:
        return statistics.median(figure(report) for report in self.reports)

    def figures(self) -> dict[str, float]:
        return {
            "rate": self.median(lambda report: report.requests_per_second),
            "p50Ms": self.median(lambda report: report.p50_ms),
            "p95Ms": self.median(lambda report: report.p95_ms),
            "p99Ms": self.median(lambda report: report.p99_ms),
        }


def fill_catalog(place: Place, plan: Plan) -> str:
    """Seed the database; returns the cursor of the list's last page.

    The last page is found without walking there: a cursor that was given while there was but one
    more page stays good, whatever is inserted before it.
    """
    with place.system.reporter.step(f"Seeding {plan.products:,} products"):
        with place.connect() as connection:
            seed_products(connection, 2 * PAGE_ROWS)
            cursor = str(_get(place, f"/products?limit={PAGE_ROWS}")["nextCursor"])
            seed_products(connection, plan.products - 2 * PAGE_ROWS, first=2 * PAGE_ROWS)
        place.settle()
    return cursor


def measure_reads(place: Place, plan: Plan, results: Results) -> None:
    """Adds a row for GET by id and one for its 304."""
    ids = _sample(place, plan)
    get = Request(path="/products/{{id}}")
    again = Request(path="/products/{{id}}", headers={"if-none-match": FIRST_ETAG})
    cases = (
        Case("GET /products/{id}", get, lists={"id": ids}),
        Case("GET /products/{id}, 304", again, NOT_MODIFIED, {"id": ids}),
    )
    scripts = []
    for number, text in enumerate(select_scripts(place, ids[:SCRIPTS])):
        scripts.append(place.folder / f"select-{number}.sql")
        scripts[-1].write_text(text)
    floors: list[float] = []

    def turn() -> None:
        floors.append(
            run_pgbench(place, scripts, clients=plan.read_connections, seconds=plan.seconds)
        )

    with place.system.reporter.step("GET /products/{id} and 304"):
        got, unchanged = in_turns(
            place,
            plan,
            cases,
            connections=plan.read_connections,
            seconds=plan.seconds,
            before=turn,
        )
    floor = statistics.median(floors)
    rates = [case.figures()["rate"] for case in (got, unchanged)]
    bars = (
        Bar("ratio", rates[0] / floor, ">=", GET_RATIO_MIN),
        Bar("304s a GET", rates[1] / rates[0], ">=", 1.0),
    )
    for case, found, rate, bar in zip(cases, (got, unchanged), rates, bars, strict=True):
        figures = {**found.figures(), "floor": floor, "ratio": rate / floor}
        name = f"{case.name}, {plan.read_connections} connections"
        results.rows.append(Row(name, figures, (bar,), found.faults))


def measure_pages(place: Place, plan: Plan, results: Results, last: str) -> None:
    """Adds a row for the first page of the list and one for its last."""
    cases = (
        Case("first page", Request(path=f"/products?limit={PAGE_ROWS}")),
        Case("last page", Request(path=f"/products?limit={PAGE_ROWS}&cursor={last}")),
    )
    faults = [_page_faults(_get(place, case.request.path), case.name) for case in cases]
    with place.system.reporter.step(f"List pages of {PAGE_ROWS}"):
        found = _pages_in_turns(place, plan, cases)
    p50 = [case.figures()["p50Ms"] for case in found]
    further = ((), (Bar("p50 of the first", p50[1] / p50[0], "<=", LAST_PAGE_MAX),))
    for case, measured, wrong, more in zip(cases, found, faults, further, strict=True):
        figures = measured.figures()
        bars = (Bar("p95 ms", figures["p95Ms"], "<=", PAGE_P95_MS_MAX), *more)
        name = f"List of {plan.products:,}, {case.name} of {PAGE_ROWS}"
        results.rows.append(Row(name, figures, bars, (*wrong, *measured.faults)))


def measure_search(place: Place, plan: Plan, results: Results) -> None:
    """Adds a row a kind of search."""
    cases = searches(place)
    faults = [_search_faults(place, case) for case in cases]
    with place.system.reporter.step("Search"):
        found = _pages_in_turns(place, plan, cases)
    for case, measured, wrong in zip(cases, found, faults, strict=True):
        figures = measured.figures()
        bar = Bar("p95 ms", figures["p95Ms"], "<=", SEARCH_P95_MS_MAX)
        name = f"Search {plan.products:,}, {case.name}"
        results.rows.append(Row(name, figures, (bar,), (*wrong, *measured.faults)))


def _pages_in_turns(place: Place, plan: Plan, cases: Sequence[Case]) -> list[Measured]:
    connections, seconds = plan.page_connections, plan.page_seconds
    return in_turns(place, plan, cases, connections=connections, seconds=seconds)


def in_turns(
    place: Place,
    plan: Plan,
    cases: Sequence[Case],
    *,
    connections: int,
    seconds: float,
    before: Callable[[], None] = lambda: None,
) -> list[Measured]:
    """Each case's reports, taken in turns with the others'. Raises StackError."""
    reports: list[list[LoadReport]] = [[] for _ in cases]
    faults: list[list[str]] = [[] for _ in cases]
    for _ in range(plan.rounds):
        before()
        for case, taken, found in zip(cases, reports, faults, strict=True):
            spec = LoadSpec(
                address=place.address,
                connections=connections,
                warmup_seconds=plan.warmup_seconds,
                seconds=seconds,
                requests=[case.request],
                lists=case.lists,
                expected=(case.expected,),
            )
            result = run_load(place.load, spec)
            taken.append(result.report)
            found.extend(result.unexpected((case.expected,)))
    return [Measured(*pair) for pair in zip(reports, map(tuple, faults), strict=True)]


def _sample(place: Place, plan: Plan) -> list[str]:
    numbers = random.Random(1).sample(range(plan.products), min(IDS_MAX, plan.products))  # noqa: S311 - no secret
    with place.connect() as connection:
        rows = connection.execute(
            "SELECT id::text FROM products WHERE sku = ANY(%s) ORDER BY md5(id::text)",
            ([f"SKU-{number:08}" for number in numbers],),
        ).fetchall()
    return [one for (one,) in rows]


def searches(place: Place) -> tuple[Case, ...]:
    """Kinds of searches, each for words of products that are there."""
    with place.connect() as connection:
        names = connection.execute(
            "SELECT name, seller_id FROM products WHERE sku LIKE 'SKU-%%0' AND status = 'active'"
            " ORDER BY md5(id::text) LIMIT %s",
            (WORDS_MAX,),
        ).fetchall()
    words = [name.lower().split() for name, _ in names]
    rare = [quote_plus(name[0]) for name in words]
    begun = [quote_plus(name[0][:-1]) for name in words]
    pairs = [quote_plus(f"{name[-1]} {name[1]}") for name in words]
    # The third letter left out, as a hasty finger does.
    typos = [quote_plus(f"{name[0][:2]}{name[0][3:]}") for name in words]
    common = [quote_plus(name[-2]) for name in words]
    filtered = [
        f"{quote_plus(name[-1])}&sellerId={seller}"
        for name, (_, seller) in zip(words, names, strict=True)
    ]
    kinds = {
        "a rare word": rare,
        "the beginning of a rare word": begun,
        "a common word": common,
        "two words": pairs,
        "a word of one seller": filtered,
        "a mistyped word": typos,
    }
    return tuple(
        Case(name, Request(path=f"/products?limit={PAGE_ROWS}&q={{{{q}}}}"), lists={"q": values})
        for name, values in kinds.items()
    )


def _search_faults(place: Place, case: Case) -> list[str]:
    """The first search must find something: each was made from a product that is there."""
    words = case.lists["q"][0]
    found = _get(place, case.request.path.replace("{{q}}", words))
    return [] if found.get("data") else [f"nothing is found for {words}"]


def _page_faults(page: Mapping[str, Any], name: str) -> list[str]:
    rows, more = len(page.get("data", ())), page.get("hasMore")
    wanted = name == "first page"
    if (rows, more) == (PAGE_ROWS, wanted):
        return []
    return [f"{rows} rows, hasMore {more}; {PAGE_ROWS} and {wanted} are right"]


def _get(place: Place, path: str) -> dict[str, Any]:
    """Any answer's body; a fault in it shows in what it lacks."""
    with httpx.Client(trust_env=False, timeout=REQUEST_SECONDS_MAX, verify=False) as client:  # noqa: S501 - plain HTTP
        body: dict[str, Any] = client.get(f"http://{place.address}{path}").json()
    return body
