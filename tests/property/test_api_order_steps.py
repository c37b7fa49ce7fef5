"""From every state every action does what the table says, and each step leaves its three records.

On the running service, not on the table: history, audit and event of each version, without a gap.
"""

import uuid
from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

from shopstream_api.db.transaction import Transaction
from shopstream_api.orders.errors import IllegalTransition
from shopstream_api.orders.service import OrderSteps
from shopstream_api.orders.transitions import TRANSITIONS
from shopstream_api.principal import Principal, RequestContext

#: The action that leads to a state; nothing leads to pending but placing an order.
ACTIONS: Final = {
    "confirmed": "confirm",
    "paid": "pay",
    "shipped": "ship",
    "delivered": "deliver",
    "cancelled": "cancel",
    "refunded": "refunds",
}
#: A way to each state.
WAYS: Final[dict[str, tuple[str, ...]]] = {
    "pending": (),
    "confirmed": ("confirm",),
    "paid": ("confirm", "pay"),
    "shipped": ("confirm", "pay", "ship"),
    "delivered": ("confirm", "pay", "ship", "deliver"),
    "cancelled": ("cancel",),
    "refunded": ("confirm", "pay", "refunds"),
}
PRICE_MINOR: Final = 1_000
EXAMPLES_MAX: Final = 20


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as running:
        yield running


@pytest.fixture(scope="module")
def on_sale(api: InProcess) -> str:
    product_id: str = api.product(stock=10**6, price=PRICE_MINOR // 100)["id"]
    return product_id


def _act(api: InProcess, order_id: str, action: str, body: object = None) -> httpx.Response:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return api.post(f"/orders/{order_id}/{action}", body, headers=headers)


def _placed(api: InProcess, product_id: str, *actions: str) -> dict[str, Any]:
    placed = api.post("/orders", {"items": [{"productId": product_id, "quantity": 1}]})
    order: dict[str, Any] = placed.json()
    for action in actions:
        order = _act(api, order["id"], action).json()
    return order


def _records(api: InProcess, order_id: str) -> tuple[list[Any], list[Any], list[Any]]:
    """History, audit and events of an order, oldest first."""
    history = api.get(f"/orders/{order_id}/history").json()["data"]
    audit = api.query(
        "SELECT action FROM audit_log WHERE entity_id = %s AND entity_type = 'order' ORDER BY id",
        order_id,
    )
    events = api.query(
        "SELECT sequence, type FROM event_audit WHERE subject = %s ORDER BY sequence", order_id
    )
    return history, audit, events


@pytest.mark.parametrize(("present", "wanted"), list(product(WAYS, ACTIONS)))
def test_each_action_is_done_or_refused_as_the_table_says(
    api: InProcess, on_sale: str, present: str, wanted: str
) -> None:
    table = api.get("/orders/transitions").json()
    before = _placed(api, on_sale, *WAYS[present])
    assert before["status"] == present
    stock = api.get(f"/products/{on_sale}/inventory").json()
    records = _records(api, before["id"])
    answer = _act(api, before["id"], ACTIONS[wanted])
    if wanted in table[present]:
        assert answer.status_code == (201 if wanted == "refunded" else 200), answer.text
        assert answer.json()["status"] == wanted
        assert answer.json()["version"] == before["version"] + 1
        history, audit, events = _records(api, before["id"])
        assert (history[:-1], audit[:-1], events[:-1]) == records
        assert (history[-1]["version"], history[-1]["status"]) == (before["version"] + 1, wanted)
        assert audit[-1] == (f"order.{wanted}",)
        assert events[-1] == (before["version"] + 1, f"order.{wanted}")
    else:
        assert (answer.status_code, answer.json()["code"]) == (409, "illegal_transition")
        said = {name: answer.json()[name] for name in ("from", "to", "allowed")}
        assert said == {"from": present, "to": wanted, "allowed": table[present]}
        assert api.get(f"/orders/{before['id']}").json() == before
        assert _records(api, before["id"]) == records
        assert api.get(f"/products/{on_sale}/inventory").json() == stock


@pytest.mark.parametrize("present", WAYS)
def test_nothing_becomes_pending_again(api: InProcess, on_sale: str, present: str) -> None:
    order = _placed(api, on_sale, *WAYS[present])

    async def back(tx: Transaction) -> None:
        await OrderSteps(5).advance(tx, Principal(), uuid.UUID(order["id"]), "pending")

    with pytest.raises(IllegalTransition):
        api.run(lambda: api.resources.database.run(RequestContext("r"), back))
    assert api.get(f"/orders/{order['id']}").json() == order


STEPS = st.lists(
    st.one_of(
        st.sampled_from(sorted(ACTIONS.values())).map(lambda action: (action, None)),
        st.integers(1, PRICE_MINOR).map(lambda amount: ("refunds", amount)),
    ),
    min_size=3,
    max_size=10,
)


@settings(max_examples=EXAMPLES_MAX, deadline=None)
@given(steps=STEPS, start=st.sampled_from(("pending", "paid")))
def test_any_walk_leaves_one_record_of_each_kind_a_version(
    api: InProcess, on_sale: str, steps: list[tuple[str, int | None]], start: str
) -> None:
    order = _placed(api, on_sale, *WAYS[start])
    status, version, refunded = order["status"], order["version"], 0
    for action, amount in steps:
        wanted = next(state for state, verb in ACTIONS.items() if verb == action)
        body = None if amount is None else {"amountMinor": amount}
        answer = _act(api, order["id"], action, body)
        left = PRICE_MINOR - refunded
        if wanted not in TRANSITIONS[status]:
            assert answer.status_code == 409
        elif wanted == "refunded" and (amount or left) > left:
            assert answer.status_code == 422
        else:
            assert answer.is_success, answer.text
            version += 1
            refunded += (amount or left) if wanted == "refunded" else 0
            if wanted != "refunded" or refunded == PRICE_MINOR:
                status = wanted
    shown = api.get(f"/orders/{order['id']}").json()
    assert (shown["status"], shown["version"], shown["refundedMinor"]) == (
        status,
        version,
        refunded,
    )
    history, audit, events = _records(api, order["id"])
    versions = list(range(1, version + 1))
    assert [step["version"] for step in history] == versions
    assert [sequence for sequence, _ in events] == versions
    assert [kind for (kind,) in audit] == [kind for _, kind in events]
