"""POST /products beside pgbench inserting the same rows, the relay publishing and paused."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from shopstream_stack.bench.evidence import Witness, check_created, new_seller
from shopstream_stack.bench.load import LoadResult, LoadSpec, Request, run_load
from shopstream_stack.bench.pgbench import insert_scripts, run_pgbench
from shopstream_stack.bench.place import Place
from shopstream_stack.bench.plan import Plan
from shopstream_stack.bench.result import Bar, Results, Row

#: Connections → the least share of pgbench's rate.
RATIO_BARS: Final = {8: 0.5, 32: 0.7, 64: 0.9}
P99_MS_MAX: Final = 35.0
#: Connections at which the bar on p99 holds.
P99_CONNECTIONS: Final = (8, 32)
CREATED: Final = 201
#: For making what another measurement needs.
SETUP_CONNECTIONS: Final = 16
SETUP_SECONDS_MAX: Final = 60.0
JSON: Final = {"content-type": "application/json"}


@dataclass(slots=True)
class _Turns:
    """The results of one number of connections, turn by turn; of each load by its seller."""

    floor: list[float] = field(default_factory=list)
    loads: dict[str, LoadResult] = field(default_factory=dict)
    lags: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def product_body(seller: str, stock: int = 10) -> str:
    """The body of the migration guide's curl, of another seller."""
    return f'{{"name":"Test Product","price":99.99,"stock":{stock},"sellerId":"{seller}"}}'


def create_products(place: Place, seller: str, count: int, *, stock: int) -> list[str]:
    """Create products by REST; returns their ids."""
    spec = _spec(place, product_body(seller, stock), connections=min(count, SETUP_CONNECTIONS))
    spec = msgspec.structs.replace(spec, seconds=SETUP_SECONDS_MAX, requests_max=count)
    return run_load(place.load, spec, place.folder / "locations").created


def measure_creates(place: Place, plan: Plan, results: Results) -> None:
    """Adds two rows a number of connections: relay publishing, relay paused."""
    floor = _fastest_floor(place, plan, results)
    _warm_up(place, plan)
    for relay in (True, False):
        for connections in plan.connections:
            title = f"POST /products, {connections} connections, relay " + (
                "publishing" if relay else "paused"
            )
            with place.system.reporter.step(title):
                turns = _take_turns(place, plan, floor, connections, relay=relay)
            results.rows.append(_row(title, connections, turns))


def _warm_up(place: Place, plan: Plan) -> None:
    with place.system.reporter.step("Warming the broker up"):
        place.start_relay()
        seconds = plan.broker_warmup_seconds
        create_load(place, plan, plan.connections[-1], new_seller("warm"), seconds=seconds)
        place.drain()


def _spec(place: Place, body: str, *, connections: int) -> LoadSpec:
    return LoadSpec(
        address=place.address,
        connections=connections,
        warmup_seconds=0,
        seconds=0,
        requests=[Request(method="POST", path="/products", headers=JSON, body=body)],
        expected=(CREATED,),
    )


def create_load(
    place: Place, plan: Plan, connections: int, seller: str, *, seconds: float
) -> LoadResult:
    """POST /products for so long. Raises StackError."""
    spec = _spec(place, product_body(seller), connections=connections)
    spec = msgspec.structs.replace(spec, warmup_seconds=plan.warmup_seconds, seconds=seconds)
    return run_load(place.load, spec, place.folder / "locations")


def _fastest_floor(place: Place, plan: Plan, results: Results) -> Path:
    """The faster of the scripts, by a short run each at the middle number of connections."""
    create_products(place, "template", 1, stock=10)
    clients = plan.connections[len(plan.connections) // 2]
    turns: dict[Path, list[float]] = {}
    with place.system.reporter.step("Which form of the pgbench script is faster"):
        for name, text in insert_scripts(place).items():
            script = place.folder / f"{name}.sql"
            script.write_text(text)
            turns[script] = []
        for _ in range(plan.rounds):
            for script, rates in turns.items():
                place.settle()
                rates.append(run_pgbench(place, [script], clients=clients, seconds=plan.seconds))
    rates_of = {script: statistics.median(rates) for script, rates in turns.items()}
    best = max(rates_of, key=rates_of.__getitem__)
    said = ", ".join(f"{script.stem} {rate:,.0f}/s" for script, rate in rates_of.items())
    results.notes.append(f"pgbench, {clients} clients: {said}; the floor is {best.stem}")
    return best


def _take_turns(place: Place, plan: Plan, floor: Path, connections: int, *, relay: bool) -> _Turns:
    turns, witness = _Turns(), Witness.before(place)
    _relay(place, on=relay)
    for _ in range(plan.rounds):
        place.settle()
        turns.floor.append(run_pgbench(place, [floor], clients=connections, seconds=plan.seconds))
        if relay:
            place.drain()  # the next load must not pay for what this one left
        seller = new_seller("post")
        place.settle()
        turns.loads[seller] = create_load(place, plan, connections, seller, seconds=plan.seconds)
        turns.lags.append(place.waiting_events())
        if relay:
            place.drain()
    place.start_relay()
    place.drain()
    published = witness.published()
    for seller, result in turns.loads.items():
        turns.faults += result.unexpected((CREATED,))
        turns.faults += check_created(witness, seller, result.created, published[seller])
    return turns


def _relay(place: Place, *, on: bool) -> None:
    if on:
        place.start_relay()
    else:
        place.stop_relay()


def _row(title: str, connections: int, turns: _Turns) -> Row:
    reports = [load.report for load in turns.loads.values()]
    rate = statistics.median(report.requests_per_second for report in reports)
    floor = statistics.median(turns.floor)
    p99 = statistics.median(report.p99_ms for report in reports)
    bars: list[Bar] = []
    if connections in RATIO_BARS:
        bars.append(Bar("ratio", rate / floor, ">=", RATIO_BARS[connections]))
    if connections in P99_CONNECTIONS:
        bars.append(Bar("p99 ms", p99, "<=", P99_MS_MAX))
    return Row(
        title,
        {
            "rate": rate,
            "p50Ms": statistics.median(report.p50_ms for report in reports),
            "p99Ms": p99,
            "floor": floor,
            "ratio": rate / floor,
            "acknowledged": sum(len(load.created) for load in turns.loads.values()),
            "waitingEventsMax": max(turns.lags),
            **_spread("rate", [report.requests_per_second for report in reports]),
            **_spread("floor", turns.floor),
        },
        tuple(bars),
        tuple(turns.faults),
    )


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{name}Min": min(values), f"{name}Max": max(values)}
