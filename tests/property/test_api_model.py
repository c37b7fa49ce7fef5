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
EXAMPLES_DEFAULT: Final = 35
STEPS: Final = 25
UNKNOWN: Final = "01890000-0000-7000-8000-000000000000"

sellers = st.sampled_from(["s1", "s2"])
#: Who asks: anybody, or a seller, whose the thing may be or not.
roles = st.sampled_from([None, None, "own", "other"])
#: A key is seldom taken for another request by chance; `repeat` does it on purpose.
key_always = st.integers(1, 30).map("k{}".format)
keys = st.none() | key_always
matches = st.sampled_from([None, None, "current", "stale", "*"])
prices = st.sampled_from([0, 5, Decimal("9.99"), Decimal("12.50")])
units = st.sampled_from([0, 1, 4, 5, 6, 7, 12])
stocks = st.fixed_dictionaries({"stock": units})
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
) | st.just({"stock": 5})
replacements = st.builds(lambda body, more: body | more, whole, st.just({}) | stocks)


Role = str | None


class ApiMachine(RuleBasedStateMachine):
    """``app`` is set by the test."""

    app: InProcess

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver(self.app)
        self.shop = self.driver.shop
        self.jumps = 0

    @initialize(
        stocks=st.tuples(*[st.sampled_from([5, 6, 12, 40])] * 3),
        steps=st.lists(st.integers(0, 4), min_size=2, max_size=4),
    )
    def begin(self, stocks: tuple[int, ...], steps: list[int]) -> None:
        """A few products of each seller, and orders that are on their way."""
        for stock, seller in zip(stocks, ("s1", "s1", "s2"), strict=True):
            self.create(
                body={"name": "Cup", "price": Decimal("9.99")},
                stock=stock,
                seller=seller,
                role=None,
                key=None,
            )
        for number in steps:
            self.order([(pid, 1) for pid in list(self.shop.products)[:2]], None)
            for verb in list(ACTIONS)[:number]:
                self.do(list(self.shop.orders)[-1], verb, None, None)

    # Products.

    @rule(body=whole, stock=units, seller=sellers, role=roles, key=keys)
    def create(self, body: Json, stock: int, seller: str, role: Role, key: str | None) -> None:
        caller = _caller(role, seller)
        sent = {**body, "stock": stock, "sellerId": seller}

        def command(answer: Json) -> Reply:
            product = self.shop.create(caller, sent, answer.get("id", ""))
            return Reply(201, product.shown(), product.etag, f"/products/{product.id}")

        valid = _fits(body)
        call = Call("POST", "/products", sent, caller, key, None, {**sent, "name": "Jar"}, valid)
        self.run(call, command)

    @rule(
        bodies=st.lists(st.tuples(whole, sellers), min_size=1, max_size=4),
        role=roles,
        key=key_always,
        atomic=st.booleans(),
    )
    def create_many(
        self, *, bodies: list[tuple[Json, str]], role: Role, key: str, atomic: bool
    ) -> None:
        caller = _caller(role, bodies[0][1])
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

    @rule(data=st.data(), role=roles, what=st.sampled_from(["patch", "patch", "put", "delete"]))
    def change(self, data: st.DataObject, role: Role, what: str) -> None:
        product_id, caller = self.some_product(data, role)
        tag = self.tag(product_id, data.draw(matches, "If-Match"))
        if what == "patch":
            self.patch(data, product_id, caller, tag)
        elif what == "put":
            self.put(data, product_id, caller, tag)
        elif len(self.there()) > 2:
            self.delete(product_id, caller, tag)

    def patch(
        self, data: st.DataObject, product_id: str, caller: str | None, tag: str | None
    ) -> None:
        sent = data.draw(changes, "body")

        def command(_: Json) -> Reply:
            product = self.shop.patch(caller, product_id, sent, tag)
            return Reply(200, product.shown(), product.etag)

        path, key = f"/products/{product_id}", data.draw(keys, "key")
        valid = "stock" not in sent
        self.run(Call("PATCH", path, sent, caller, key, tag, {"name": "Jar"}, valid), command)

    def put(
        self, data: st.DataObject, product_id: str, caller: str | None, tag: str | None
    ) -> None:
        sent = data.draw(replacements, "body")

        def command(_: Json) -> Reply:
            product = self.shop.put(caller, product_id, sent, tag)
            return Reply(200, product.shown(), product.etag)

        self.run(Call("PUT", f"/products/{product_id}", sent, caller, match=tag), command)

    def delete(self, product_id: str, caller: str | None, tag: str | None) -> None:
        def command(_: Json) -> Reply:
            self.shop.delete(caller, product_id, tag)
            return Reply(204, None)

        self.run(Call("DELETE", f"/products/{product_id}", caller=caller, match=tag), command)

    # Stock.

    @rule(data=st.data(), role=roles, what=st.sampled_from(["adjust", "set", "reserve", "release"]))
    def stock(self, data: st.DataObject, role: Role, what: str) -> None:
        if what == "release" and self.shop.reservations:
            self.release(data.draw(st.sampled_from(list(self.shop.reservations)), "held"), role)
            return
        product_id, caller = self.some_product(data, role)
        if what == "adjust":
            self.adjust(data, product_id, caller)
        elif what == "set":
            self.set_stock(data, product_id, caller)
        else:
            self.reserve(data, product_id, caller)

    def adjust(self, data: st.DataObject, product_id: str, caller: str | None) -> None:
        delta = data.draw(st.sampled_from([-7, -1, 1, 6, 10**9]), "delta")
        sent = {"delta": delta, "reason": "counted"}

        def command(_: Json) -> Reply:
            return Reply(201, self.shop.adjust(caller, product_id, delta, "counted"))

        path, key = f"/products/{product_id}/stock-adjustments", data.draw(key_always, "key")
        self.run(Call("POST", path, sent, caller, key, other={**sent, "reason": "found"}), command)

    def set_stock(self, data: st.DataObject, product_id: str, caller: str | None) -> None:
        product = self.shop.products.get(product_id)
        quantity, present = data.draw(units, "quantity"), 3 if product is None else product.stock
        expected = data.draw(st.sampled_from([present, present, 3]), "expected")

        def command(_: Json) -> Reply:
            return Reply(200, self.shop.set_stock(caller, product_id, quantity, expected))

        sent = {"quantity": quantity, "expectedQuantity": expected}
        self.run(Call("PUT", f"/products/{product_id}/stock", sent, caller), command)

    def reserve(self, data: st.DataObject, product_id: str, caller: str | None) -> None:
        quantity = data.draw(st.integers(1, 6), "quantity")
        reference = data.draw(st.sampled_from([None, "cart 7"]), "reference")

        def command(answer: Json) -> Reply:
            held = self.shop.reserve(caller, product_id, quantity, reference, answer.get("id", ""))
            return Reply(201, held.shown())

        path, key = f"/products/{product_id}/reservations", data.draw(keys, "key")
        sent = {"quantity": quantity, "reference": reference}
        other = {"quantity": quantity, "reference": "x"}
        self.run(Call("POST", path, sent, caller, key, other=other), command)

    def release(self, held: str, role: Role) -> None:
        caller = _caller(role, self.shop.reservations[held].product.seller)

        def command(_: Json) -> Reply:
            self.shop.release(caller, held)
            return Reply(204, None)

        self.run(Call("DELETE", f"/reservations/{held}", caller=caller), command)

    # Orders.

    @rule(data=st.data(), counts=st.lists(st.integers(1, 4), min_size=1, max_size=4), key=keys)
    def place(self, data: st.DataObject, counts: list[int], key: str | None) -> None:
        self.order([(self.some_product(data)[0], count) for count in counts], key)

    def order(self, lines: list[tuple[str, int]], key: str | None) -> None:
        items = [{"productId": pid, "quantity": count} for pid, count in lines]

        def command(answer: Json) -> Reply:
            order = self.shop.place(lines, "c1", answer.get("id", ""))
            return Reply(201, order.shown(), order.etag, f"/orders/{order.id}")

        sent = {"customerId": "c1", "items": items}
        self.run(Call("POST", "/orders", sent, None, key, other={"items": items}), command)

    @precondition(lambda self: self.shop.orders)
    @rule(data=st.data(), role=roles, verb=st.sampled_from([*ACTIONS, "cancel", *["refund"] * 3]))
    def act(self, data: st.DataObject, role: Role, verb: str) -> None:
        order_id, caller = self.some_order(data, role)
        if verb == "refund":
            self.refund(data, order_id, caller)
        else:
            self.do(order_id, verb, caller, data.draw(keys, "key"))

    @precondition(lambda self: self.shop.orders)
    @rule(data=st.data(), steps=st.integers(1, 4))
    def go_on(self, data: st.DataObject, steps: int) -> None:
        """The way of an order that meets no obstacle: chance alone seldom goes it to the end."""
        order_id, _ = self.some_order(data)
        for verb in ACTIONS:
            if steps and ACTIONS[verb] in ALLOWED[self.shop.orders[order_id].status][:1]:
                self.do(order_id, verb, None, None)
                steps -= 1

    def do(self, order_id: str, verb: str, caller: str | None, key: str | None) -> None:
        def command(_: Json) -> Reply:
            order = self.shop.act(caller, order_id, verb)
            return Reply(200, order.shown(), order.etag)

        self.run(Call("POST", f"/orders/{order_id}/{verb}", None, caller, key), command)

    def refund(self, data: st.DataObject, order_id: str, caller: str | None) -> None:
        amount = data.draw(st.sampled_from([None, 1, 999, 100_000]), "amount")
        reason = data.draw(st.sampled_from([None, "late"]), "reason")
        given = {"amountMinor": amount, "reason": reason}
        sent = {name: value for name, value in given.items() if value is not None}

        def command(_: Json) -> Reply:
            order = self.shop.refund(caller, order_id, amount, reason)
            return Reply(201, order.shown(), order.etag)

        path, key = f"/orders/{order_id}/refunds", data.draw(key_always, "key")
        self.run(Call("POST", path, sent, caller, key, other={**sent, "reason": "other"}), command)

    # Time and repetition.

    @rule(seconds=st.sampled_from([None, 60, 600, 900, 84_600, 86_400]), sweeps=st.booleans())
    def time_goes_on(self, *, seconds: int | None, sweeps: bool) -> None:
        """Or goes back an hour."""
        if seconds is None:
            # Never to a moment that was: what happens there would tie with what has happened.
            self.jumps += 1
            self.app.clock.advance(timedelta(hours=-1, milliseconds=-self.jumps))
        else:
            self.app.clock.advance(timedelta(seconds=seconds))
        if sweeps:
            assert self.app.run(self.app.resources.expiry.sweep) == self.shop.expire()
            self.driver.verify()

    @precondition(lambda self: self.driver.keyed)
    @rule(data=st.data(), other=st.sampled_from([False, True]))
    def repeat(self, data: st.DataObject, *, other: bool) -> None:
        call, command = data.draw(st.sampled_from(self.driver.keyed), "request")
        self.driver.repeat(call, command, other=other)

    def run(self, call: Call, command: Command) -> None:
        self.driver.run(call, command)

    def there(self) -> list[str]:
        return [pid for pid, product in self.shop.products.items() if not product.deleted]

    def some_product(self, data: st.DataObject, role: Role = None) -> tuple[str, str | None]:
        """A product and a caller: mostly one that is there, else a deleted or an unknown one."""
        there = self.there()
        chosen = data.draw(
            st.sampled_from([*there, *there, *self.shop.products, UNKNOWN]), "product"
        )
        product = self.shop.products.get(chosen)
        return chosen, _caller(role, "s1" if product is None else product.seller)

    def some_order(self, data: st.DataObject, role: Role = None) -> tuple[str, str | None]:
        chosen = data.draw(st.sampled_from(list(self.shop.orders)), "order")
        return chosen, _caller(role, self.shop.orders[chosen].seller)

    def tag(self, product_id: str, match: str | None) -> str | None:
        product = self.shop.products.get(product_id)
        version = 1 if product is None else product.version
        named = {"current": f'"v{version}.7"', "stale": f'"v{version - 1}"'}
        return match if match is None else named.get(match, match)

    def teardown(self) -> None:
        self.driver.finish()


def _caller(role: Role, owner: str) -> str | None:
    return {None: None, "own": owner, "other": "s2" if owner == "s1" else "s1"}[role]


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
