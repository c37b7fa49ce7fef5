"""The limits of stock: what a caller may set, what can be stored, what the tables never take."""

import uuid
from collections.abc import Iterator

import httpx
import psycopg
import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

from shopstream_api.db.migrate import downgrade, migrate

LIMIT = 10**9


@pytest.fixture(scope="module")
def app(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        yield running


def _adjust(app: InProcess, product: str, delta: int) -> httpx.Response:
    return app.post(
        f"/products/{product}/stock-adjustments",
        {"delta": delta, "reason": "counted"},
        headers={"Idempotency-Key": uuid.uuid4().hex},
    )


def _above_the_limit(app: InProcess, units: int) -> str:
    """A product whose sold units were replaced before a refund brought them back."""
    product: str = app.product(stock=LIMIT)["id"]
    items = [{"productId": product, "quantity": units}]
    order = app.post("/orders", {"items": items}).json()["id"]
    for verb in ("confirm", "pay"):
        assert app.post(f"/orders/{order}/{verb}").status_code == 200
    assert _adjust(app, product, units).status_code == 201
    key = {"Idempotency-Key": uuid.uuid4().hex}
    assert app.post(f"/orders/{order}/refunds", {}, headers=key).status_code == 201
    return product


def test_stock_above_the_limit_can_be_shown_kept_and_lowered_but_not_raised(
    app: InProcess,
) -> None:
    product = _above_the_limit(app, 9)
    shown = app.get(f"/products/{product}").json()
    assert shown["stock"] == LIMIT + 9
    writable = ("name", "description", "sku", "category", "tags", "price", "currency", "stock")
    body = {name: shown[name] for name in writable} | {"name": "kept"}
    kept = app.request("PUT", f"/products/{product}", json=body)
    assert (kept.status_code, kept.json()["stock"]) == (200, LIMIT + 9)
    assert _adjust(app, product, 1).status_code == 422
    assert _adjust(app, product, -1).json()["stock"] == LIMIT + 8
    url = f"/products/{product}/stock"
    same = {"quantity": LIMIT + 8, "expectedQuantity": LIMIT + 8}
    assert app.request("PUT", url, json=same).status_code == 422
    lower = {"quantity": LIMIT, "expectedQuantity": LIMIT + 8}
    assert app.request("PUT", url, json=lower).json()["stock"] == LIMIT


def test_held_units_leave_room_for_themselves(app: InProcess) -> None:
    product = app.product(stock=LIMIT)["id"]
    held = app.post(f"/products/{product}/reservations", {"quantity": 3}).json()["id"]
    assert _adjust(app, product, 1).status_code == 422
    assert app.request("DELETE", f"/reservations/{held}").status_code == 204
    assert app.get(f"/products/{product}").json()["stock"] == LIMIT


@pytest.mark.parametrize(
    ("column", "value"), [("stock", -1), ("stock", 2 * LIMIT + 1), ("reserved", -1)]
)
def test_the_table_itself_refuses_what_no_code_may_do(
    app: InProcess, column: str, value: int
) -> None:
    product = app.product(stock=5)["id"]
    with pytest.raises(psycopg.errors.CheckViolation):
        app.query(f"UPDATE products SET {column} = %s WHERE id = %s RETURNING id", value, product)
    assert app.query("SELECT stock, reserved FROM products WHERE id = %s", product) == [(5, 0)]


def test_an_older_schema_keeps_stock_above_its_limit_but_takes_no_more_of_it(
    session_components: LocalComponents,
) -> None:
    with in_process(session_components) as app:
        product = _above_the_limit(app, 2)
        url = app.database_url
    downgrade(url, "0002")
    statement = "UPDATE products SET stock = %s WHERE id = %s"
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT stock FROM products").fetchone() == (LIMIT + 2,)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(statement, (LIMIT + 1, product))
        connection.execute(statement, (LIMIT, product))
    migrate(url)
