"""The Python client and the real service understand each other, from refusal to goodbye."""

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from typing import TypeVar

import pytest
from tests.support.components import LocalComponents
from tests.support.stream_service import Publisher, StreamService, an_event

from shopstream_stack.demo.crowd import until
from shopstream_stack.stream_client import StreamClient
from shopstream_stack.stream_events import DomainEvent, Goodbye, Opened, Refused, StreamEvent

SECONDS_MAX = 30.0
T = TypeVar("T")


class Listener:
    """A client that runs, and what it was told; it waits a tenth of what it is asked for."""

    def __init__(self, service: StreamService) -> None:
        self.client = StreamClient(f"{service.url}/events/stream?types=product.*", wait=self._wait)
        self.told: list[StreamEvent] = []
        self.waits: list[float] = []
        self._running = asyncio.create_task(self._run())

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.told if isinstance(event, kind)]

    async def until(self, holds: Callable[[], object]) -> None:
        assert await until(lambda: bool(holds()), SECONDS_MAX), self.told

    async def close(self) -> None:
        await self.client.aclose()
        await self._running

    async def _run(self) -> None:
        async with aclosing(self.client.events()) as events:
            async for event in events:
                self.told.append(event)

    async def _wait(self, closed: asyncio.Event, seconds: float) -> None:
        self.waits.append(seconds)
        await until(closed.is_set, min(seconds, 3.0) / 10)


@pytest.fixture
def publisher(components: LocalComponents) -> Publisher:
    components.up("kafka")
    return Publisher(components.kafka_brokers)


def test_a_refusal_an_opening_events_and_a_goodbye_are_told_and_heeded(
    components: LocalComponents, publisher: Publisher
) -> None:
    async def run(service: StreamService) -> None:
        first = Listener(service)
        await first.until(lambda: first.of(Opened))
        second = Listener(service)
        await second.until(lambda: second.of(Refused))
        refused = second.of(Refused)[0]
        assert refused.reason == "address"
        await second.until(lambda: second.waits)
        assert second.waits[0] == refused.retry_ms / 1_000
        await first.close()
        await second.until(lambda: second.of(Opened))

        events = [an_event(subject="s"), an_event(subject="s")]
        publisher.publish(events[0])
        await second.until(lambda: second.of(DomainEvent))
        service.terminate()
        await second.until(lambda: second.of(Goodbye))
        await asyncio.to_thread(service.wait_exit)
        publisher.publish(events[1])
        await asyncio.to_thread(service.start)
        await second.until(lambda: len(second.of(DomainEvent)) == 2)
        await second.close()

        assert [opened.resumed for opened in second.of(Opened)] == [False, True]
        assert [event.data.encode() for event in second.of(DomainEvent)] == [
            e.value for e in events
        ]
        assert json.loads(second.of(DomainEvent)[0].data)["subject"] == "s"

    with StreamService(
        components.kafka_brokers, SHOPSTREAM_STREAM_CLIENTS_PER_ADDRESS="1"
    ) as service:
        asyncio.run(run(service))
