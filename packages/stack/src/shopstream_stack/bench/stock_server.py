"""What most would write: sse-starlette's response and a queue a client, fed by the same topics.

The stream's floor, in a process of its own as the service is: one consumer thread, one `put` a
client and event, ids from the offset, no filters, no resume. ``python -m
shopstream_stack.bench.stock_server``, with port and brokers in one line of its input.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvicorn
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topic_admin import shapes
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.bench.peer import say_ready

PATH: Final = "/events"
POLL_SECONDS: Final = 0.1
MESSAGES_MAX: Final = 1_000
BACKLOG: Final = 4_096

Queue = asyncio.Queue[tuple[str, str]]


class Stock:
    """All clients' queues, and who fills them."""

    def __init__(self, brokers: str) -> None:
        self.queues: set[Queue] = set()
        self._connection = KafkaConnection(brokers, "shopstream-bench-stock")

    def consume(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read the log from its present end, for ever."""
        admin = AdminClient(self._connection.admin())
        consumer = Consumer(self._connection.consumer("bench-stock") | {"fetch.wait.max.ms": 10})
        parts = [
            TopicPartition(topic, p)
            for topic, (count, _) in shapes(admin, STREAM_TOPICS).items()
            for p in range(count)
        ]
        for part in parts:
            part.offset = consumer.get_watermark_offsets(part)[1]
        consumer.assign(parts)
        say_ready()
        while True:
            first = consumer.poll(POLL_SECONDS)
            if first is not None:
                rest = consumer.consume(MESSAGES_MAX, 0)
                loop.call_soon_threadsafe(self._give, [first, *rest])

    def _give(self, messages: list[Message]) -> None:
        for message in messages:
            value = message.value()
            if message.error() is None and isinstance(value, bytes):
                event = (f"{message.partition()}-{message.offset()}", value.decode())
                for queue in self.queues:
                    queue.put_nowait(event)

    async def events(self, queue: Queue) -> AsyncIterator[ServerSentEvent]:
        """One client's."""
        try:
            while True:
                event_id, data = await queue.get()
                yield ServerSentEvent(data, id=event_id)
        finally:
            self.queues.discard(queue)

    async def stream(self, request: Request) -> EventSourceResponse:
        """The one route."""
        queue: Queue = asyncio.Queue()
        self.queues.add(queue)
        return EventSourceResponse(self.events(queue))


def run(port: int, brokers: str) -> None:
    """Serve until killed."""
    stock = Stock(brokers)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        threading.Thread(target=stock.consume, args=(loop,), daemon=True).start()
        yield

    app = Starlette(routes=[Route(PATH, stock.stream)], lifespan=lifespan)
    uvicorn.run(app, port=port, log_level="warning", access_log=False, backlog=BACKLOG)


if __name__ == "__main__":
    port, brokers = sys.stdin.readline().split()
    run(int(port), brokers)
