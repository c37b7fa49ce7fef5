"""Holds that are over are ended once, by whoever comes first, and at no other time."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.app import InProcess, expired, in_process, later
from tests.support.components import LocalComponents
from tests.support.system import wait_until

from shopstream_api.errors import Unavailable
from shopstream_api.expiry import worker
from shopstream_api.expiry.worker import Failed
from shopstream_api.orders.service import OrderSteps
from shopstream_shared.clock import ManualClock

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOLD_SECONDS = 900
SECONDS_MAX = 20.0


@pytest.fixture
def app(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components, clock=ManualClock(START)) as running:
        yield running


def _order(app: InProcess, *lines: tuple[str, int]) -> dict[str, Any]:
    items = [{"productId": product, "quantity": quantity} for product, quantity in lines]
    answer = app.post("/orders", {"items": items})
    assert answer.status_code == 201, answer.text
    order: dict[str, Any] = answer.json()
    return order


def _reserve(app: InProcess, product: str, quantity: int = 1) -> str:
    answer = app.post(f"/products/{product}/reservations", {"quantity": quantity})
    assert answer.status_code == 201, answer.text
    held: str = answer.json()["id"]
    return held


def _level(app: InProcess, product: str) -> tuple[int, int]:
    found = app.get(f"/products/{product}/inventory").json()
    return found["stock"], found["reserved"]


def _events(app: InProcess, *subjects: str) -> list[tuple[str, str | None]]:
    """Types and reasons in the order of their publishing, from the first on that expired."""
    rows = app.query(
        "SELECT type, convert_from(payload, 'UTF8')::json->'data'->>'reason' FROM outbox"
        " WHERE aggregateid = ANY(%s) ORDER BY seq",
        list(subjects),
    )
    first = next(at for at, (kind, _) in enumerate(rows) if kind == "order.cancelled")
    return rows[first:]


def test_an_order_expires_when_its_time_is_over_and_not_before(app: InProcess) -> None:
    one, two = app.product(stock=9)["id"], app.product(stock=9)["id"]
    pending, confirmed = _order(app, (one, 2), (two, 3)), _order(app, (one, 1))
    assert app.post(f"/orders/{confirmed['id']}/confirm").status_code == 200
    later(app, HOLD_SECONDS - 0.000001)
    assert expired(app) == 0
    later(app, 0.000001)
    assert expired(app) == 2
    assert expired(app) == 0
    for order in (pending, confirmed):
        found = app.get(f"/orders/{order['id']}").json()
        assert (found["status"], found["cancelReason"]) == ("cancelled", "expired")
        assert found["reservedUntil"] is None
        history = app.get(f"/orders/{order['id']}/history").json()["data"]
        assert (history[-1]["status"], history[-1]["reason"]) == ("cancelled", "expired")
        assert app.query(
            "SELECT count(*) FROM audit_log WHERE entity_id = %s AND action = 'order.cancelled'",
            order["id"],
        ) == [(1,)]
    assert (_level(app, one), _level(app, two)) == ((9, 0), (9, 0))
    # Cause before effect, one release a product.
    assert _events(app, pending["id"], one, two)[:3] == [
        ("order.cancelled", None),
        ("inventory.released", "expired"),
        ("inventory.released", "expired"),
    ]
    # All of one expiry can be found by one id.
    assert app.query(
        "SELECT count(DISTINCT convert_from(payload, 'UTF8')::json->>'correlationid') FROM outbox"
        " WHERE type IN ('order.cancelled', 'inventory.released') GROUP BY txid"
    ) == [(1,), (1,)]
    late = app.post(f"/orders/{confirmed['id']}/pay")
    assert (late.status_code, late.json()["from"]) == (409, "cancelled")


def test_a_reservation_expires_as_an_order_does(app: InProcess) -> None:
    product = app.product(stock=9)["id"]
    held = _reserve(app, product, 4)
    later(app, HOLD_SECONDS)
    assert expired(app) == 1
    assert _level(app, product) == (9, 0)
    (line, _) = app.get(f"/products/{product}/stock-movements").json()["data"]
    assert (line["delta"], line["reason"]) == (4, "expired")
    assert app.request("DELETE", f"/reservations/{held}").status_code == 404
    assert expired(app) == 0


def test_what_was_paid_or_ended_in_time_never_expires(app: InProcess) -> None:
    product = app.product(stock=9)["id"]
    paid, cancelled = _order(app, (product, 1)), _order(app, (product, 1))
    for verb in ("confirm", "pay"):
        assert app.post(f"/orders/{paid['id']}/{verb}").status_code == 200
    assert app.post(f"/orders/{cancelled['id']}/cancel").status_code == 200
    app.request("DELETE", f"/reservations/{_reserve(app, product)}")
    later(app, 10 * HOLD_SECONDS)
    assert expired(app) == 0
    assert app.get(f"/orders/{paid['id']}").json()["status"] == "paid"
    assert _level(app, product) == (8, 0)


def test_units_of_a_deleted_product_come_back_when_its_orders_expire(app: InProcess) -> None:
    product = app.product(stock=9)["id"]
    order = _order(app, (product, 2))
    _reserve(app, product)
    assert app.request("DELETE", f"/products/{product}").status_code == 204
    later(app, HOLD_SECONDS)
    assert expired(app) == 2
    assert app.get(f"/orders/{order['id']}").json()["cancelReason"] == "expired"
    assert app.query("SELECT stock, reserved FROM products") == [(9, 0)]


def test_a_clock_that_goes_back_expires_nothing_twice_and_breaks_nothing(app: InProcess) -> None:
    product = app.product(stock=20)["id"]
    early = _order(app, (product, 1))
    later(app, HOLD_SECONDS)
    assert expired(app) == 1
    later(app, -3600)
    second = _order(app, (product, 1))
    held = _reserve(app, product)
    assert expired(app) == 0
    assert app.post(f"/orders/{second['id']}/confirm").status_code == 200
    assert app.request("DELETE", f"/reservations/{held}").status_code == 204
    # Its hold is counted by the clock of its own time: over before the first one's was.
    later(app, HOLD_SECONDS)
    assert expired(app) == 1
    later(app, 2 * 3600)
    assert expired(app) == 0
    assert app.get(f"/orders/{early['id']}").json()["version"] == 2
    assert app.get(f"/orders/{second['id']}").json()["cancelReason"] == "expired"
    assert _level(app, product) == (20, 0)
    # Times of one product's events never go back, whatever the clock did: checked by the rules.


def test_more_than_a_batch_is_ended_in_one_sweep(
    app: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BATCH_ROWS", 4)
    products = [app.product(stock=9)["id"] for _ in range(3)]
    for _ in range(4):
        _order(app, *((product, 1) for product in products))
    for product in products:
        _reserve(app, product)
    later(app, HOLD_SECONDS)
    assert expired(app) == 7
    assert {_level(app, product) for product in products} == {(9, 0)}


def test_two_workers_end_many_orders_once_each(
    session_components: LocalComponents, app: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = 40
    monkeypatch.setattr(worker, "BATCH_ROWS", orders // 2)
    products = [app.product(stock=orders)["id"] for _ in range(4)]

    async def place() -> None:
        for number in range(orders):
            items = [
                {"productId": products[(number + step) % 4], "quantity": 1} for step in range(2)
            ]
            answer = await app.client.post("/orders", json={"items": items})
            assert answer.status_code == 201

    app.run(place)
    later(app, HOLD_SECONDS)
    _together_at_first(monkeypatch)
    with in_process(session_components, database_url=app.database_url, clock=app.clock) as other:
        first = app.portal.start_task_soon(app.resources.expiry.sweep)
        second = other.portal.start_task_soon(other.resources.expiry.sweep)
        ended = first.result(60), second.result(60)
    # Each may leave to the other what it has locked; the next sweep finds what nobody ended.
    assert sum(ended) + expired(app) == orders
    assert min(ended) > 0
    assert app.query(
        "SELECT type, count(*), count(DISTINCT aggregateid) FROM outbox"
        " WHERE type IN ('order.cancelled', 'inventory.released') GROUP BY type ORDER BY type"
    ) == [("inventory.released", 2 * orders, 4), ("order.cancelled", orders, orders)]
    assert {_level(app, product) for product in products} == {(orders, 0)}


def _together_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two applications waits with its first claimed order until the other has one too."""
    original, both, waited = OrderSteps.cancel, threading.Barrier(2), set()

    async def cancel(*arguments: Any, **named: Any) -> Any:
        loop = threading.get_ident()
        if loop not in waited:
            waited.add(loop)
            both.wait(SECONDS_MAX)
        return await original(*arguments, **named)

    monkeypatch.setattr(OrderSteps, "cancel", cancel)


def test_a_hold_that_cannot_be_ended_does_not_stand_in_the_way(
    app: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = app.product(stock=9)["id"]
    bad, good = _order(app, (product, 1)), _order(app, (product, 1))
    original, tried = OrderSteps.cancel, []

    async def cancel(*arguments: Any, **named: Any) -> Any:
        tried.append(str(arguments[3]))
        if tried[-1] == bad["id"]:
            msg = "broken on purpose"
            raise RuntimeError(msg)
        return await original(*arguments, **named)

    later(app, HOLD_SECONDS)
    with monkeypatch.context() as patch:
        patch.setattr(OrderSteps, "cancel", cancel)
        assert expired(app) == 1
        # It waits its turn: the next sweep leaves it alone.
        assert expired(app) == 0
    assert tried == [bad["id"], good["id"]]
    assert app.get(f"/orders/{good['id']}").json()["status"] == "cancelled"
    assert app.get(f"/orders/{bad['id']}").json()["status"] == "pending"
    metrics = app.get("/metrics").text
    assert "shopstream_holds_failures_total 1.0" in metrics
    assert 'shopstream_holds_expired_total{kind="order"} 1.0' in metrics
    later(app, 5)
    assert expired(app) == 0
    assert "shopstream_holds_overdue_seconds 5.0" in app.get("/metrics").text
    monkeypatch.setattr(Failed, "waiting", lambda *_: [])
    assert expired(app) == 1
    assert "shopstream_holds_overdue_seconds 0.0" in app.get("/metrics").text


def test_a_lock_that_is_not_given_ends_the_sweep_but_not_the_next(
    app: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = app.product(stock=9)["id"]
    stuck, good = _order(app, (product, 1)), _order(app, (product, 1))
    original = OrderSteps.cancel

    async def cancel(*arguments: Any, **named: Any) -> Any:
        if str(arguments[3]) == stuck["id"]:
            msg = "The database is away or too busy."
            raise Unavailable(msg)
        return await original(*arguments, **named)

    monkeypatch.setattr(OrderSteps, "cancel", cancel)
    later(app, HOLD_SECONDS)
    with pytest.raises(Unavailable):
        expired(app)
    assert expired(app) == 1
    assert app.get(f"/orders/{good['id']}").json()["status"] == "cancelled"


def test_the_timer_ends_what_is_over(session_components: LocalComponents) -> None:
    with in_process(
        session_components, clock=ManualClock(START), SHOPSTREAM_EXPIRY_SECONDS="0.05"
    ) as app:
        order = _order(app, (app.product(stock=9)["id"], 1))
        later(app, HOLD_SECONDS)
        wait_until(lambda: app.get(f"/orders/{order['id']}").json()["version"] == 2, "it is ended")
        assert app.get(f"/orders/{order['id']}").json()["cancelReason"] == "expired"
        assert app.get("/health").json()["checks"]["expiry"]["status"] == "healthy"


def test_expiry_that_is_off_says_so_and_one_that_is_behind_is_unhealthy(
    session_components: LocalComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_process(session_components) as app:
        assert app.get("/health").json()["checks"]["expiry"]["message"] == "off"
    with in_process(
        session_components, clock=ManualClock(START), SHOPSTREAM_EXPIRY_SECONDS="60"
    ) as app:
        order = _order(app, (app.product(stock=9)["id"], 1))
        monkeypatch.setattr(worker, "BATCH_ROWS", 0)
        later(app, HOLD_SECONDS + worker.OVERDUE_SECONDS_MAX + 1)
        assert expired(app) == 0
        check = app.get("/health").json()["checks"]["expiry"]
        assert (check["status"], check["message"]) == ("unhealthy", "a hold is overdue by 601 s")
        assert app.get("/health/ready").json()["checks"].keys() == {"database"}
        monkeypatch.undo()
        assert expired(app) == 1
        assert app.get(f"/orders/{order['id']}").json()["cancelReason"] == "expired"
        assert app.get("/health").json()["checks"]["expiry"]["message"] == "none overdue"
