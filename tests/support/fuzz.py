"""The description driven against the application: every operation, every check, stateful links.

Schemathesis calls the application in its own process, in the loop that the application lives in.
What JSON Schema cannot say (a price has no more digits than its currency, a cursor belongs to its
filters) is put right in requests that are meant to be valid, in one place: `MadeValid`.
"""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Protocol

import psycopg
import schemathesis
from anyio.from_thread import BlockingPortal
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import Case, HookContext, SerializationContext
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.generation.stateful.state_machine import StepInput, StepOutput
from schemathesis.specs.openapi.schemas import OpenApiSchema
from starlette.types import Message, Receive, Scope, Send
from tests.support.app import InProcess

from shopstream_api.catalog.schemas import STOCK_MAX
from shopstream_api.money import EXPONENTS, PRICE_MINOR_MAX
from shopstream_api.web.openapi import WORDS

#: Enough for create, order, confirm, pay, ship, refund with detours.
CHAIN_STEPS_MAX: Final = 15
#: Tables with the rows that migrations put there.
KEPT: Final = ("alembic_version", "outbox_shards", "relay_state", "stream_position")


@schemathesis.serializer("application/x-ndjson")
def lines_of_json(context: SerializationContext, value: Any) -> bytes:
    """A file as it is; what is no text cannot be written into one."""
    return value.encode() if isinstance(value, str) else b""


class Running(Protocol):
    """An application that lives in a loop of its own."""

    @property
    def app(self) -> FastAPI: ...
    @property
    def portal(self) -> BlockingPortal: ...


class InItsLoop:
    """The application as an ASGI callable for another loop: each call runs in its own loop."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            # It is up already.
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        for answer in await asyncio.wrap_future(
            self._running.portal.start_task_soon(self._answer, dict(scope), body)
        ):
            await send(answer)

    async def _answer(self, scope: Scope, body: bytes) -> list[Message]:
        answers: list[Message] = []

        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            message = next(messages, None)
            if message is None:
                # As a server does: nothing more comes until the client has gone.
                await asyncio.Event().wait()
            return message or {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            answers.append(message)

        await self._running.app(scope, receive, send)
        return answers


class MadeValid:
    """Puts right, in a request that is meant to be valid, what its description cannot say.

    Everything else of the request stays as it was generated; requests that are meant to be refused
    are not touched.
    """

    def __init__(self, running: InProcess) -> None:
        self._running = running
        self._rules: dict[str, Callable[[Case[Any], dict[str, Any]], None]] = {
            "createProduct": self._product,
            "replaceProduct": self._same_product,
            "patchProduct": self._same_product,
            "setStock": self._expected,
            "adjustStock": self._fitting,
            "placeOrder": self._orderable,
            "createProducts": self._each_alone,
            "refundOrder": self._refundable,
        }

    def __call__(self, context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
        if case.meta is None or not case.meta.generation.mode.is_positive:
            return
        headers = case.headers
        if case.path_parameters.get("id") in WORDS:
            # The tool takes the last word of /products/bulk for an id of /products/{id}.
            case.path_parameters["id"] = str(uuid.uuid4())
        if headers.get("Idempotency-Key"):
            headers["Idempotency-Key"] = uuid.uuid4().hex
        if "If-Match" in headers:
            headers["If-Match"] = "*"
        if case.query.get("cursor") is not None:
            self._cursor(case)
        if "X-Seller-Id" in headers:
            self._own(case)
        if isinstance(case.body, str):
            self._file(case, case.body)
        rule = self._rules.get(operation_id(case))
        if rule is not None and isinstance(case.body, dict):
            rule(case, case.body)

    def _cursor(self, case: Case[Any]) -> None:
        """The one that the same list gives with the same filters, if it has a second page."""
        del case.query["cursor"]
        page = self._running.get(case.formatted_path, params=case.query, headers=case.headers)
        cursor = page.json().get("nextCursor")
        if cursor is not None:
            case.query["cursor"] = cursor

    def _own(self, case: Case[Any]) -> None:
        """The thing's own seller asks; for any other it would not be there at all."""
        owner = None
        if case.path.startswith(("/products/{id}", "/orders/{id}")):
            path = "/".join(case.formatted_path.split("/")[:3])
            owner = self._running.get(path).json().get("sellerId")
        elif isinstance(case.body, dict):
            owner = case.body.get("sellerId")
        if owner is not None:
            case.headers["X-Seller-Id"] = owner
        elif case.path.startswith("/reservations"):
            del case.headers["X-Seller-Id"]

    def _product(self, case: Case[Any], body: dict[str, Any]) -> None:
        if "X-Seller-Id" not in case.headers:
            body.setdefault("sellerId", "seller1")
        if body.get("sku"):
            # A second one of its name would be 409 and lead nowhere.
            body["sku"] = uuid.uuid4().hex
        body["price"] = _price(body["price"], body.get("currency", "USD"))

    def _same_product(self, case: Case[Any], body: dict[str, Any]) -> None:
        present = self._running.get(case.formatted_path)
        shown = present.json() if present.status_code == HTTPStatus.OK else body
        for name in {"stock", "sellerId"} & body.keys():
            body[name] = shown[name]
        before = shown.get("currency", "USD")
        currency = body.get("currency", "USD" if case.method == "PUT" else before)
        if "price" in body or currency != before:
            body["price"] = _price(body.get("price", shown.get("price", 1)), currency)

    def _expected(self, case: Case[Any], body: dict[str, Any]) -> None:
        inventory = self._running.get(case.formatted_path.replace("/stock", "/inventory"))
        if inventory.status_code == HTTPStatus.OK:
            body["expectedQuantity"] = inventory.json()["stock"]

    def _fitting(self, case: Case[Any], body: dict[str, Any]) -> None:
        """No more than there is room for."""
        product = self._running.get(case.formatted_path.replace("/stock-adjustments", ""))
        stock = product.json().get("stock", 0)
        body["delta"] = min(body["delta"], STOCK_MAX - stock) or -1

    def _orderable(self, case: Case[Any], body: dict[str, Any]) -> None:
        """All lines are of products that can be ordered, of one seller and one currency."""
        asked = [self._running.get(f"/products/{line['productId']}") for line in body["items"]]
        there = [answer.json() for answer in asked if answer.status_code == HTTPStatus.OK]
        active = [shown for shown in there if shown["status"] == "active"]
        first = active[0] if active else self._running.product(stock=10**6)
        alike = {
            shown["id"]
            for shown in (first, *active)
            if (shown["sellerId"], shown["currency"]) == (first["sellerId"], first["currency"])
        }
        for line in body["items"]:
            if line["productId"] not in alike:
                line["productId"] = first["id"]

    def _file(self, case: Case[Any], body: str) -> None:
        """At least one row, and in CSV a line of columns before any text."""
        if case.media_type == "text/csv":
            case.body = f"sku,name,price,sellerId\nKB-1,x,1,seller1\n{body.replace(chr(34), '')}"
        else:
            case.body = f"{{}}\n{body}"

    def _each_alone(self, case: Case[Any], body: dict[str, Any]) -> None:
        """Any row may be refused; together they would be refused whole."""
        body.pop("atomic", None)

    def _refundable(self, case: Case[Any], body: dict[str, Any]) -> None:
        order = self._running.get(case.formatted_path, headers=case.headers)
        if order.status_code == HTTPStatus.OK and "amountMinor" in body:
            left = order.json()["totalMinor"] - order.json()["refundedMinor"]
            body["amountMinor"] = max(1, min(body["amountMinor"], left))


def _price(price: float, currency: str) -> float:
    """The price with the digits and below the bound of the currency."""
    highest = PRICE_MINOR_MAX // 10 ** EXPONENTS[currency]
    return float(min(round(price, EXPONENTS[currency]), highest))


@contextmanager
def described(running: InProcess, *, examples: int) -> Iterator[OpenApiSchema]:
    """The application's description as a source of requests, the same ones in every run.

    ``examples`` bounds the generated requests an operation.
    """
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "generation": {"deterministic": True, "database": "none", "max-examples": examples},
        }
    )
    made_valid = MadeValid(running)

    def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
        made_valid(context, case, kwargs)

    schemathesis.hook(before_call)
    try:
        yield schemathesis.openapi.from_asgi("/openapi.json", InItsLoop(running), config=config)
    finally:
        schemathesis.hooks.unregister(before_call)


@dataclass(slots=True)
class Report:
    """What a whole run has found; ``answered`` are the statuses by operation."""

    failures: list[str] = field(default_factory=list)
    answered: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))


def run_phases(schema: OpenApiSchema) -> Report:
    """Examples, covering cases, generated cases and chains: all that the tool has."""
    report = Report()
    for event in from_schema(schema).execute():
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.NonFatalError):
            report.failures.append(f"{event.phase} {event.label}: {event.value!r}")
        if isinstance(event, events.ScenarioFinished):
            _note(report, event)
    return report


def _note(report: Report, event: events.ScenarioFinished) -> None:
    for case_id, interaction in event.recorder.interactions.items():
        if interaction.response is not None:
            name = operation_id(event.recorder.cases[case_id].value)
            report.answered[name].add(interaction.response.status_code)
    for case_id, checks in event.recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                case = event.recorder.cases[case_id].value
                found = check.failure_info
                report.failures.append(
                    f"{event.phase} {case.operation.label}, {check.name}: {found.failure}\n"
                    f"{found.code_sample}"
                )


def run_chains(running: InProcess, schema: OpenApiSchema, *, chains: int) -> dict[str, int]:
    """Follow the links of the description from an empty database, all checks after each step.

    Raises at the first failure. Returns how often each described link was followed with success.
    """
    followed: dict[str, int] = defaultdict(int)

    class Chains(schema.as_state_machine()):  # type: ignore[misc]  # made at run time
        def setup(self) -> None:
            # Whatever a chain meets is its own doing, so that it is the same when it is replayed.
            emptied(running)

        def step(self, input: StepInput) -> StepOutput:  # noqa: A002 - the library's name
            output: StepOutput = super().step(input)
            if (
                input.transition is not None
                and output.response.status_code < HTTPStatus.BAD_REQUEST
            ):
                followed[input.transition.id] += 1
            return output

    run_state_machine_as_test(
        Chains,
        settings=settings(
            max_examples=chains,
            stateful_step_count=CHAIN_STEPS_MAX,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )
    return followed


def operation_id(case: Case[Any]) -> str:
    """The name of the operation that a case calls."""
    name: str = case.operation.definition.raw["operationId"]
    return name


def emptied(running: InProcess) -> None:
    """Forget all that requests have left in the database."""
    tables = running.query(
        "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND c.relnamespace = 'public'::regnamespace AND NOT c.relname = ANY(%s)",
        list(KEPT),
    )
    names = ", ".join(name for (name,) in tables)
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {names}".encode())
