"""Cold replays one after another share a consumer; what one leaves on it must not stop the next."""

import asyncio

from tests.support.components import LocalComponents
from tests.support.stream_service import Publisher, StreamService, an_event

ROUNDS = 3


def test_one_cold_replay_after_another_is_complete(components: LocalComponents) -> None:
    publisher = Publisher(components.kafka_brokers)

    async def run(service: StreamService) -> None:
        stream = await (await service.connect()).opened()
        stream.cut()
        events = [an_event() for _ in range(12)]
        publisher.publish(*events)
        service.restart()
        for _ in range(ROUNDS):
            again = await service.connect(last_event_id=stream.last_id)
            await again.got(events)
            again.cut()

    with StreamService(components.kafka_brokers) as service:
        asyncio.run(run(service))
