"""A shop in which everything has happened once."""

from typing import Any

from tests.support.app import InProcess


def live(app: InProcess) -> None:
    """Products changed and deleted, stock counted and held, orders in every state, refunds."""
    first, second, gone = (app.product(stock=30)["id"] for _ in range(3))
    assert app.request("PATCH", f"/products/{first}", json={"name": "Other"}).is_success
    assert app.request("DELETE", f"/products/{gone}").is_success
    for number, delta in enumerate((5, -25)):
        _post(
            app,
            f"/products/{second}/stock-adjustments",
            {"delta": delta, "reason": "counted"},
            key=f"adjust-{number}",
        )
    held = [_post(app, f"/products/{first}/reservations", {"quantity": 2})["id"] for _ in range(2)]
    assert app.request("DELETE", f"/reservations/{held[0]}").is_success
    lines = [{"productId": pid, "quantity": 2} for pid in (first, second)]
    orders = [_post(app, "/orders", {"items": lines})["id"] for _ in range(5)]
    _post(app, f"/orders/{orders[0]}/cancel")
    for order in orders[1:4]:
        _post(app, f"/orders/{order}/confirm")
        _post(app, f"/orders/{order}/pay")
    _post(app, f"/orders/{orders[1]}/ship")
    refunds: tuple[tuple[str, Any], ...] = (
        (orders[1], {"amountMinor": 5}),
        (orders[1], {}),
        (orders[2], {}),
    )
    for number, (order, body) in enumerate(refunds):
        _post(app, f"/orders/{order}/refunds", body, key=f"refund-{number}")


def _post(app: InProcess, path: str, body: Any = None, key: str | None = None) -> Any:
    answer = app.post(path, body, headers={} if key is None else {"Idempotency-Key": key})
    assert answer.is_success, answer.text
    return answer.json()
