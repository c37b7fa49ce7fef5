"""Cold replays of a crowd and of one newcomer, through the real readers of a real broker."""

import asyncio
from datetime import UTC, datetime
from typing import Final

from tests.support.components import LocalComponents
from tests.support.stream_service import Publisher, Stream, StreamService, an_event

from shopstream_shared.clock import epoch_ms

CROWD: Final = 20
#: Each replay reads all of them: three slices of 2,000.
EVENTS: Final = 5_000
LAST: Final = "the-last-of-all"


def test_a_newcomer_does_not_wait_for_the_cold_replays_of_another_address(
    components: LocalComponents,
) -> None:
    since = epoch_ms(datetime.now(UTC))
    publisher = Publisher(components.kafka_brokers)
    publisher.publish(*(an_event() for _ in range(EVENTS)))
    last = an_event(subject=LAST)
    publisher.publish(last)
    query = f"?since={since}&subject={LAST}"

    async def run(service: StreamService) -> None:
        complete: list[str] = []

        async def opened(address: str) -> Stream:
            return await (
                await service.connect(query, headers={"X-Forwarded-For": address})
            ).opened()

        async def to_the_last(stream: Stream, name: str) -> None:
            await stream.got([last], 60)
            complete.append(name)

        async with asyncio.TaskGroup() as group:
            streams = await asyncio.gather(*(opened("192.0.2.1") for _ in range(CROWD)))
            for number, stream in enumerate(streams):
                group.create_task(to_the_last(stream, f"crowd {number}"))
            newcomer = await opened("192.0.2.2")
            await to_the_last(newcomer, "newcomer")
            # First come, first served, it would have been among the last.
            assert len(complete) <= CROWD // 2, complete
        assert len(complete) == CROWD + 1, "nobody is forgotten either"
        for stream in (*streams, newcomer):
            stream.cut()

    with StreamService(components.kafka_brokers, SHOPSTREAM_TRUSTED_PROXIES="127.0.0.1") as service:
        asyncio.run(run(service))
