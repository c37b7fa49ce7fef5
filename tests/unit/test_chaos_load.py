"""How the callers of chaos hold on to a write, and what they write down."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import httpx
import pytest

from shopstream_shared.clock import SystemClock
from shopstream_stack.chaos import load
from shopstream_stack.chaos.load import Caller, Shop, Silence, keep_going
from shopstream_stack.demo.crowd import until
from shopstream_stack.journal import Journal

FIRST, SECOND = "http://one", "http://two"
SECONDS_MAX = 20.0
BODY = {"name": "Mug", "price": 12.5}

Answer = Callable[[httpx.Request], httpx.Response]


class Server:
    """Answers by a list of functions, one a request, the last one for ever; keeps what came."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(request)


def created(request: httpx.Request) -> httpx.Response:
    return httpx.Response(201, json={"id": "p1", "version": 1})


def away(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def problem(status: int, code: str) -> Answer:
    return lambda request: httpx.Response(status, json={"status": status, "code": code})


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PAUSE_SECONDS_FIRST", 0.0)
    monkeypatch.setattr(load, "AVOID_SECONDS", 600.0)


def calling(folder: Path, server: Server, act: Callable[[Caller], object]) -> Caller:
    """Run `act` with a caller; its journal is `run.jsonl` in the folder."""

    async def run() -> Caller:
        transport = httpx.MockTransport(server)
        with Journal.open(folder, "run", SystemClock()) as journal:
            async with httpx.AsyncClient(transport=transport) as client:
                caller = Caller(client, [FIRST, SECOND], journal)
                await act(caller)  # type: ignore[misc]  # an awaitable of whatever kind
                return caller

    return asyncio.run(run())


def noted(folder: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    return [(line["kind"], line["path"]) for line in lines if line["kind"] != "run"]


def test_an_unanswered_write_goes_to_the_other_process_with_the_same_key(tmp_path: Path) -> None:
    server = Server(away, created)
    caller = calling(tmp_path, server, lambda one: one.write("POST", "/products", BODY))
    assert [request.url.host for request in server.seen] == ["one", "two"]
    keys = {request.headers["idempotency-key"] for request in server.seen}
    assert len(keys) == 1
    assert (caller.acknowledged, caller.repeated, caller.given_up) == (1, 1, 0)
    assert noted(tmp_path) == [("write", "/products")]


def test_a_process_that_did_not_answer_is_left_alone_while_another_does(tmp_path: Path) -> None:
    server = Server(away, created)

    async def act(caller: Caller) -> None:
        for _ in range(4):
            await caller.write("POST", "/products", BODY)

    calling(tmp_path, server, act)
    assert [request.url.host for request in server.seen] == ["one", *["two"] * 4]


@pytest.mark.parametrize(
    ("status", "code"), [(503, "unavailable"), (409, "idempotency_key_in_flight")]
)
def test_an_answer_that_decides_nothing_is_asked_for_again(
    tmp_path: Path, status: int, code: str
) -> None:
    server = Server(problem(status, code), created)
    caller = calling(tmp_path, server, lambda one: one.write("POST", "/products", BODY))
    assert (caller.acknowledged, caller.refused, caller.faults) == (1, 0, [])
    assert noted(tmp_path) == [("write", "/products")]


def test_a_write_without_a_key_is_sent_once_and_noted_as_unanswered(tmp_path: Path) -> None:
    server = Server(away)

    async def act(caller: Caller) -> None:
        with pytest.raises(Silence):
            await caller.write("DELETE", "/products/p1", keyed=False)

    caller = calling(tmp_path, server, act)
    assert len(server.seen) == 1
    assert "idempotency-key" not in server.seen[0].headers
    assert caller.given_up == 1
    assert noted(tmp_path) == [("unanswered", "/products/p1")]


def test_a_write_is_given_up_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "ANSWER_SECONDS_MAX", 0.0)

    async def act(caller: Caller) -> None:
        with pytest.raises(Silence):
            await caller.write("POST", "/orders", {})

    calling(tmp_path, Server(away), act)
    assert noted(tmp_path) == [("unanswered", "/orders")]


@pytest.mark.parametrize("code", sorted(load.FAIR_REFUSALS))
def test_a_fair_refusal_is_no_fault_and_not_in_the_journal(tmp_path: Path, code: str) -> None:
    caller = calling(
        tmp_path, Server(problem(409, code)), lambda one: one.write("POST", "/orders", {})
    )
    assert (caller.acknowledged, caller.refused, caller.faults) == (0, 1, [])
    assert noted(tmp_path) == []


def test_any_other_answer_is_a_fault(tmp_path: Path) -> None:
    caller = calling(
        tmp_path, Server(problem(500, "internal")), lambda one: one.write("POST", "/orders", {})
    )
    assert caller.faults == ["POST /orders: 500 internal"]


def test_a_shop_goes_on_while_nobody_answers(tmp_path: Path) -> None:
    """A product first; then whatever comes is given up, and nothing ends the worker."""

    async def act(caller: Caller) -> None:
        stop = asyncio.Event()
        shop = Shop(caller, "seller", Random(1))
        working = asyncio.create_task(keep_going(shop, stop, per_second=10_000))
        assert await until(lambda: caller.repeated >= 20, SECONDS_MAX)
        stop.set()
        server.answers = [problem(404, "not_found")]
        await working

    server = Server(created, away)
    calling(tmp_path, server, act)
    assert server.seen[0].url.path == "/products"
    assert noted(tmp_path)[0] == ("write", "/products")


@pytest.mark.parametrize(
    ("answer", "faults", "unread"),
    [
        (problem(200, ""), [], 0),
        (problem(500, "internal"), ["GET /products/p1/inventory: 500 internal"], 0),
        (problem(404, "not_found"), ["GET /products/p1/inventory: 404 not_found"], 0),
        (problem(503, "unavailable"), [], 1),
        (problem(429, "too_many"), [], 1),
        (away, [], 1),
    ],
    ids=["200", "500", "404", "503", "429", "away"],
)
def test_a_read_that_is_not_answered_as_the_contract_says_is_a_fault_else_counted(
    answer: Answer, faults: list[str], unread: int, tmp_path: Path
) -> None:
    caller = calling(tmp_path, Server(answer), lambda one: one.read("/products/p1/inventory"))
    assert (caller.faults, caller.unread) == (faults, unread)
