"""POST /imports: rows a second from the first byte sent until the import is done."""

import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import httpx

from shopstream_stack.bench.evidence import Witness, check_created, new_seller
from shopstream_stack.bench.place import Place
from shopstream_stack.bench.plan import Plan
from shopstream_stack.bench.result import Bar, Results, Row
from shopstream_stack.bench.waiting import wait_until

RATE_MIN: Final = 3_000.0
CHUNK_ROWS: Final = 500
REQUEST_SECONDS_MAX: Final = 120.0
IMPORT_SECONDS_MAX: Final = 300.0
ACCEPTED: Final = 202


def measure_imports(place: Place, plan: Plan, results: Results) -> None:
    """Adds a row for new products and one for the same files again, which changes nothing."""
    place.start_relay()
    sellers, witness = [new_seller("import") for _ in range(plan.rounds)], Witness.before(place)
    for name, member in (("new products", "rowsCreated"), ("the same again", "rowsUnchanged")):
        title = f"Import of {plan.import_rows:,} rows, {name}"
        turns: list[dict[str, float]] = []
        faults: list[str] = []
        with place.system.reporter.step(title):
            for seller in sellers:
                place.settle()
                figures, wrong = _import(place, plan, seller, member)
                turns.append(figures)
                place.drain()
                faults += [*wrong, *_product_faults(witness, plan, seller)]
        figures = _medians(turns)
        bars = (Bar("rows/s", figures.get("rate", 0), ">=", RATE_MIN),)
        results.rows.append(Row(title, figures, bars, tuple(faults)))


def _product_faults(witness: Witness, plan: Plan, seller: str) -> list[str]:
    with witness.place.connect() as connection:
        rows = connection.execute(
            "SELECT id::text FROM products WHERE seller_id = %s", (seller,)
        ).fetchall()
    ids = [row for (row,) in rows]
    wrong = [] if len(ids) == plan.import_rows else [f"{len(ids)} products"]
    # The second time too: one event a product, no more.
    return wrong + check_created(witness, seller, ids, witness.published()[seller])


def _medians(turns: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of what all turns have: one that failed has nothing."""
    names = set.intersection(*(set(figures) for figures in turns))
    return {name: statistics.median(figures[name] for figures in turns) for name in names}


def _import(
    place: Place, plan: Plan, seller: str, member: str
) -> tuple[dict[str, float], list[str]]:
    headers = {
        "content-type": "application/x-ndjson",
        "idempotency-key": uuid.uuid4().hex,
        "x-seller-id": seller,
    }
    base = f"http://{place.address}"
    with httpx.Client(base_url=base, timeout=REQUEST_SECONDS_MAX, trust_env=False) as client:
        began = time.monotonic()
        answer = client.post("/imports", content=_rows(plan.import_rows, seller), headers=headers)
        if answer.status_code != ACCEPTED:
            return {}, [f"POST /imports: {answer.status_code} {answer.text[:200]}"]
        received = time.monotonic()
        path, state = answer.headers["location"], answer.json()

        def ended() -> bool:
            nonlocal state
            state = client.get(path, headers={"x-seller-id": seller}).json()
            return bool(state["status"] != "running")

        wait_until(ended, "the import ends", IMPORT_SECONDS_MAX)
        seconds = time.monotonic() - began
    figures = {
        "rate": plan.import_rows / seconds,
        "receivedPerSecond": plan.import_rows / (received - began),
        "waitingEventsMax": float(place.waiting_events()),
    }
    return figures, _state_faults(state, plan.import_rows, member)


def _rows(count: int, seller: str) -> Iterator[bytes]:
    """Rows of the migration guide's product, each with a sku, some at a time."""
    for first in range(0, count, CHUNK_ROWS):
        lines = (
            f'{{"name":"Test Product","sku":"I-{n}","price":99.99,"stock":10,'
            f'"sellerId":"{seller}"}}\n'
            for n in range(first, min(first + CHUNK_ROWS, count))
        )
        yield "".join(lines).encode()


def _state_faults(state: dict[str, Any], rows: int, member: str) -> list[str]:
    wanted = {"status": "done", "rowsRead": rows, "rowsFailed": 0, member: rows}
    return [
        f"the import says {name} {state.get(name)}, not {value}"
        for name, value in wanted.items()
        if state.get(name) != value
    ]
