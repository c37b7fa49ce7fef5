"""The API against a model of it: any sequence of requests is answered as the model says.

Hypothesis makes up the requests; `tests.support.api_model` is the shop in plain Python. What is
compared after each step: the answer, and by GET all that the step has changed. At the end of each
example: every list, the events, and the invariants of the database. SHOPSTREAM_TEST_EXAMPLES is
the number of examples of a longer run, at random and with failures made small; without it the
same few run each time.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from tests.support.api_driver import Call, Command, Driver, Reply
from tests.support.api_model import ACTIONS, ALLOWED
from tests.support.api_things import DIGITS, Json
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents

EXAMPLES: Final = os.environ.get("SHOPSTREAM_TEST_EXAMPLES")  # noqa: TID251 - a tester's wish
EXAMPLES_DEFAULT: Final = 30
STEPS: Final = 50
UNKNOWN: Final = "01890000-0000-7000-8000-000000000000"

sellers = st.sampled_from(["s1", "s2"])
callers = st.sampled_from([None, None, "s1", "s2"])
keys = st.sampled_from([None, None, "k1", "k2", "k3"])
key_always = st.sampled_from(["k1", "k2"])
matches = st.sampled_from([None, None, "current", "stale", "*"])
prices = st.sampled_from([0, 5, Decimal("9.99"), Decimal("12.50")])
units = st.sampled_from([0, 1, 4, 5, 6, 7, 12])
details = {
    "sku": st.sampled_from([None, "A", "B"]),
    "description": st.sampled_from([None, "of clay\r\nand glaze"]),
    "category": st.sampled_from([None, "kitchen"]),
    "tags": st.lists(st.sampled_from(["red", "new"]), max_size=2),
    "currency": st.sampled_from(["USD", "USD", "USD", "JPY"]),
    "status": st.sampled_from(["active", "active", "active", "draft"]),
}
whole = st.fixed_dictionaries(
    {"name": st.sampled_from(["Cup", "Pot"]), "price": prices}, optional=details
)
changes = st.fixed_dictionaries(
    {}, optional={"name": st.just("Mug"), "price": prices, "sellerId": sellers, **details}
)


class ApiMachine(RuleBasedStateMachine):
    """``app`` is set by the test."""

    app: InProcess

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver(self.app)
        self.shop = self.driver.shop
        self.jumps = 0

    @initialize(stocks=st.lists(st.sampled_from([5, 6, 12]), min_size=2, max_size=3))
    def begin(self, stocks: list[int]) -> None:
        for stock in stocks:
            body = {"name": "Cup", "price": 5}
            self.create(body=body, stock=stock, seller="s1", caller=None, key=None)

    # Products.

    @rule(body=whole, stock=units, seller=sellers, caller=callers, key=keys)
    def create(
        self, body: Json, stock: int, seller: str, caller: str | None, key: str | None
    ) -> None:
        sent = {**body, "stock": stock, "sellerId": seller}

        def command(answer: Json) -> Reply:
            product = self.shop.create(caller, sent, answer.get("id", ""))
            return Reply(201, product.shown(), product.etag, f"/products/{product.id}")

        valid = _fits(body)
        call = Call("POST", "/products", sent, caller, key, None, {**sent, "name": "Jar"}, valid)
        self.run(call, command)

    @rule(
        bodies=st.lists(st.tuples(whole, sellers), min_size=1, max_size=4),
        caller=callers,
        key=key_always,
        atomic=st.booleans(),
    )
    def create_many(
        self, *, bodies: list[tuple[Json, str]], caller: str | None, key: str, atomic: bool
    ) -> None:
        items = [{**body, "sellerId": seller} for body, seller in bodies]

        def command(answer: Json) -> Reply:
            made = [row["product"]["id"] for row in answer.get("results", ()) if "product" in row]
            results = self.shop.create_many(caller, items, made, atomic=atomic)
            return Reply(200, {"results": results})

        sent = {"items": items, "atomic": atomic}
        other = {"items": [*items, items[0]], "atomic": False}
        valid = not atomic or all(
            _fits(item) and caller in {None, item["sellerId"]} for item in items
        )
        self.run(Call("POST", "/products/bulk", sent, caller, key, None, other, valid), command)

    @rule(
        data=st.data(),
        body=changes,
        caller=callers,
        key=keys,
        match=matches,
        stocked=st.integers(0, 9),
    )
    def patch(
        self,
        *,
        data: st.DataObject,
        body: Json,
        caller: str | None,
        key: str | None,
        match: str | None,
        stocked: int,
    ) -> None:
        product_id = self.some_product(data)
        sent = {**body, "stock": 5} if stocked == 0 else body
        tag = self.tag(product_id, match)

        def command(_: Json) -> Reply:
            product = self.shop.patch(caller, product_id, sent, tag)
            return Reply(200, product.shown(), product.etag)

        path = f"/products/{product_id}"
        valid = "stock" not in sent
        self.run(Call("PATCH", path, sent, caller, key, tag, {"name": "Jar"}, valid), command)

    @rule(data=st.data(), body=whole, caller=callers, match=matches, stock=st.none() | units)
    def put(
        self,
        *,
        data: st.DataObject,
        body: Json,
        caller: str | None,
        match: str | None,
        stock: int | None,
    ) -> None:
        product_id = self.some_product(data)
        sent = body if stock is None else {**body, "stock": stock}
        tag = self.tag(product_id, match)

        def command(_: Json) -> Reply:
            product = self.shop.put(caller, product_id, sent, tag)
            return Reply(200, product.shown(), product.etag)

        self.run(Call("PUT", f"/products/{product_id}", sent, caller, match=tag), command)

    @rule(data=st.data(), caller=callers, match=matches)
    def delete(self, data: st.DataObject, caller: str | None, match: str | None) -> None:
        product_id = self.some_product(data)
        tag = self.tag(product_id, match)

        def command(_: Json) -> Reply:
            self.shop.delete(caller, product_id, tag)
            return Reply(204, None)

        self.run(Call("DELETE", f"/products/{product_id}", caller=caller, match=tag), command)

    # Stock.

    @rule(
        data=st.data(),
        caller=callers,
        delta=st.sampled_from([-7, -1, 1, 6, 10**9]),
        key=key_always,
    )
    def adjust(self, data: st.DataObject, caller: str | None, delta: int, key: str) -> None:
        product_id = self.some_product(data)
        sent = {"delta": delta, "reason": "counted"}

        def command(_: Json) -> Reply:
            return Reply(201, self.shop.adjust(caller, product_id, delta, "counted"))

        path = f"/products/{product_id}/stock-adjustments"
        self.run(Call("POST", path, sent, caller, key, other={**sent, "reason": "found"}), command)

    @rule(data=st.data(), caller=callers, quantity=units, right=st.booleans())
    def set_stock(
        self, *, data: st.DataObject, caller: str | None, quantity: int, right: bool
    ) -> None:
        product_id = self.some_product(data)
        product = self.shop.products.get(product_id)
        expected = product.stock if product is not None and right else 3

        def command(_: Json) -> Reply:
            return Reply(200, self.shop.set_stock(caller, product_id, quantity, expected))

        sent = {"quantity": quantity, "expectedQuantity": expected}
        self.run(Call("PUT", f"/products/{product_id}/stock", sent, caller), command)

    @rule(
        data=st.data(),
        caller=callers,
        quantity=st.integers(1, 6),
        key=keys,
        reference=st.sampled_from([None, "cart 7"]),
    )
    def reserve(
        self,
        data: st.DataObject,
        caller: str | None,
        quantity: int,
        key: str | None,
        reference: str | None,
    ) -> None:
        product_id = self.some_product(data)
        sent = {"quantity": quantity, "reference": reference}

        def command(answer: Json) -> Reply:
            held = self.shop.reserve(caller, product_id, quantity, reference, answer.get("id", ""))
            return Reply(201, held.shown())

        path = f"/products/{product_id}/reservations"
        self.run(
            Call("POST", path, sent, caller, key, other={"quantity": quantity, "reference": "x"}),
            command,
        )

    @precondition(lambda self: self.shop.reservations)
    @rule(data=st.data(), caller=callers)
    def release(self, data: st.DataObject, caller: str | None) -> None:
        held = data.draw(st.sampled_from(sorted(self.shop.reservations)), "reservation")

        def command(_: Json) -> Reply:
            self.shop.release(caller, held)
            return Reply(204, None)

        self.run(Call("DELETE", f"/reservations/{held}", caller=caller), command)

    # Orders.

    @rule(data=st.data(), counts=st.lists(st.integers(1, 4), min_size=1, max_size=4), key=keys)
    def place(self, data: st.DataObject, counts: list[int], key: str | None) -> None:
        lines = [(self.some_product(data), count) for count in counts]
        items = [{"productId": pid, "quantity": count} for pid, count in lines]

        def command(answer: Json) -> Reply:
            order = self.shop.place(lines, "c1", answer.get("id", ""))
            return Reply(201, order.shown(), order.etag, f"/orders/{order.id}")

        sent = {"customerId": "c1", "items": items}
        self.run(Call("POST", "/orders", sent, None, key, other={"items": items}), command)

    @precondition(lambda self: self.shop.orders)
    @rule(data=st.data(), caller=callers, verb=st.sampled_from(sorted(ACTIONS)), key=keys)
    def act(self, data: st.DataObject, caller: str | None, verb: str, key: str | None) -> None:
        self.do(self.some_order(data), verb, caller, key)

    @precondition(lambda self: self.shop.orders)
    @rule(data=st.data(), steps=st.integers(1, 4))
    def go_on(self, data: st.DataObject, steps: int) -> None:
        """The way of an order that meets no obstacle: chance alone seldom goes it to the end."""
        order_id = self.some_order(data)
        for verb in ACTIONS:
            if steps and ACTIONS[verb] in ALLOWED[self.shop.orders[order_id].status][:1]:
                self.do(order_id, verb, None, None)
                steps -= 1

    def do(self, order_id: str, verb: str, caller: str | None, key: str | None) -> None:
        def command(_: Json) -> Reply:
            order = self.shop.act(caller, order_id, verb)
            return Reply(200, order.shown(), order.etag)

        self.run(Call("POST", f"/orders/{order_id}/{verb}", None, caller, key), command)

    @precondition(lambda self: self.shop.orders)
    @rule(
        data=st.data(),
        caller=callers,
        amount=st.sampled_from([None, 1, 499, 500, 100_000]),
        key=key_always,
        reason=st.sampled_from([None, "late"]),
    )
    def refund(
        self,
        data: st.DataObject,
        caller: str | None,
        amount: int | None,
        key: str,
        reason: str | None,
    ) -> None:
        order_id = self.some_order(data)
        sent = {"amountMinor": amount, "reason": reason}
        sent = {name: value for name, value in sent.items() if value is not None}

        def command(_: Json) -> Reply:
            order = self.shop.refund(caller, order_id, amount, reason)
            return Reply(201, order.shown(), order.etag)

        path = f"/orders/{order_id}/refunds"
        self.run(Call("POST", path, sent, caller, key, other={**sent, "reason": "other"}), command)

    # Time and repetition.

    @rule(seconds=st.sampled_from([60, 600, 900, 1800, 84_600, 86_400]))
    def wait(self, seconds: int) -> None:
        self.app.clock.advance(timedelta(seconds=seconds))

    @rule()
    def the_clock_jumps_back(self) -> None:
        # Never to a moment that was: what happens there would tie with what has happened.
        self.jumps += 1
        self.app.clock.advance(timedelta(hours=-1, milliseconds=-self.jumps))

    @rule()
    def holds_expire(self) -> None:
        assert self.app.run(self.app.resources.expiry.sweep) == self.shop.expire()
        self.driver.verify()

    @precondition(lambda self: self.driver.keyed)
    @rule(data=st.data(), other=st.sampled_from([False, True]))
    def repeat(self, data: st.DataObject, *, other: bool) -> None:
        call, command = data.draw(st.sampled_from(self.driver.keyed), "request")
        self.driver.repeat(call, command, other=other)

    def run(self, call: Call, command: Command) -> None:
        self.driver.run(call, command)

    def some_product(self, data: st.DataObject) -> str:
        """One that was made, deleted or not, or one that never was."""
        return data.draw(st.sampled_from([*self.shop.products, UNKNOWN]), "product")

    def some_order(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.shop.orders)), "order")

    def tag(self, product_id: str, match: str | None) -> str | None:
        product = self.shop.products.get(product_id)
        version = 1 if product is None else product.version
        named = {"current": f'"v{version}.7"', "stale": f'"v{version - 1}"'}
        return match if match is None else named.get(match, match)

    def teardown(self) -> None:
        self.driver.finish()


def _fits(body: Mapping[str, Any]) -> bool:
    """Whether the price has no more digits than its currency."""
    price = Decimal(body["price"])
    return price == round(price, DIGITS[body.get("currency", "USD")])


@pytest.mark.timeout(0 if EXAMPLES else 600)
def test_every_sequence_of_requests_is_answered_as_the_model_says(
    components: LocalComponents,
) -> None:
    with in_process(components, SHOPSTREAM_EXPIRY_SECONDS="0") as app:
        ApiMachine.app = app
        run_machine(
            ApiMachine,
            settings=settings(
                max_examples=int(EXAMPLES or EXAMPLES_DEFAULT),
                stateful_step_count=STEPS,
                deadline=None,
                derandomize=EXAMPLES is None,
                database=None,
                # To make a failure small takes minutes; its steps are few enough to be read.
                phases=[Phase.generate, *([Phase.shrink] if EXAMPLES else [])],
                suppress_health_check=list(HealthCheck),
            ),
        )
