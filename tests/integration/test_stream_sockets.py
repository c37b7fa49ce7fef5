"""Connections as they come and go, seen from inside: the service runs in the test's own loop.

The full form of what is counted here, over memory, is `python -m tests.endurance churn`.
"""

import asyncio
import gc
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest
from tests.support.churning import churn
from tests.support.components import LocalComponents
from tests.support.stream_service import Publisher
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from shopstream_notifications.client import Client
from shopstream_notifications.protocol import StreamProtocol
from shopstream_notifications.service import run_service
from shopstream_notifications.settings import NotificationsSettings
from shopstream_notifications.wiring import Resources, Runner
from shopstream_shared import web

CONNECTS = 2_000
WATCHED = (StreamProtocol, RequestResponseCycle, Client, asyncio.Task)
#: Tasks that end on their way out of a step of the loop.
SPARE = 5
#: Of the loop, which has a few things to do between the listener's end and the connections'.
TURNS = 20


@pytest.fixture
def own_process() -> Iterator[None]:
    """The service takes signals and the collector for its own; afterwards both are as they were."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    for number, handler in kept.items():
        signal.signal(number, handler)


def objects() -> Counter[str]:
    gc.collect()
    found: Counter[str] = Counter()
    for one in gc.get_objects():
        for kind in WATCHED:
            if isinstance(one, kind):
                found[kind.__name__] += 1
    return found


def test_e15_connections_that_come_and_go_leave_no_object_and_no_socket(
    session_components: LocalComponents, own_process: None
) -> None:
    brokers = session_components.kafka_brokers
    Publisher(brokers)
    listener = web.bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    process = psutil.Process()
    seen: list[tuple[Counter[str], int]] = []

    def look() -> None:
        seen.append((objects(), process.num_fds()))

    def beside(resources: Resources) -> dict[str, Runner]:
        async def come_and_go() -> None:
            # Caches, the log and lazily made things are there after some.
            await churn(port, 100)
            await until(lambda: resources.streams() == 0)
            look()
            await churn(port, CONNECTS)
            await until(lambda: resources.streams() == 0)
            # Well within uvicorn's keep-alive time, for which it would keep what was reset.
            look()
            os.kill(os.getpid(), signal.SIGTERM)

        return {"come-and-go": come_and_go}

    run_service(settings_for(brokers), listener, beside=beside)

    (before, fds_before), (after, fds_after) = seen
    grown = {kind: count for kind, count in (after - before).items() if count > SPARE}
    assert grown == {}
    assert fds_after <= fds_before + SPARE


def settings_for(brokers: str) -> NotificationsSettings:
    return NotificationsSettings.model_validate(
        {"KAFKA_BROKERS": brokers, "SHOPSTREAM_DRAIN_SECONDS": "0"}
    )


def test_e12_a_connection_whose_request_is_on_its_way_at_the_end_is_waited_for(
    session_components: LocalComponents, own_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is waited for is what counts here, not how long.
    monkeypatch.setattr(web, "FIRST_REQUEST_SECONDS_MAX", 20.0)
    listener = web.bind("127.0.0.1", 0)
    address = listener.getsockname()
    answers: list[bytes] = []

    async def connects() -> bool:
        try:
            _, writer = await asyncio.open_connection(*address)
        except OSError:
            return False
        writer.transport.abort()
        return True

    async def ask_late() -> None:
        reader, writer = await asyncio.open_connection(*address)
        os.kill(os.getpid(), signal.SIGTERM)
        while await connects():
            pass
        for _ in range(TURNS):
            await asyncio.sleep(0)  # the listener is closed; what follows that at once is done
        writer.write(b"GET /events/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        answers.append(await reader.read())
        writer.close()

    beside = {"ask-late": ask_late}
    run_service(settings_for(session_components.kafka_brokers), listener, beside=lambda _: beside)

    assert answers[0].startswith(b"HTTP/1.1 200")
    assert b"event: stream.goodbye" in answers[0]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what is waited for is another part's state
            await asyncio.sleep(0.01)
