"""No request is left waiting, however exactly it comes when the last statement has ended."""

import asyncio
from collections.abc import Sequence

import pytest

from shopstream_api.db.coalesce import Coalescer

WAIT_SECONDS_MAX = 10.0

pytestmark = pytest.mark.anyio


async def test_who_asks_again_at_once_is_answered_again() -> None:
    coalescer = Coalescer[int, int](_echo, _alone, in_flight_max=1)

    async def twice() -> list[int]:
        return [await coalescer.submit(number) for number in (1, 2)]

    async with asyncio.timeout(WAIT_SECONDS_MAX):
        assert await asyncio.create_task(twice()) == [1, 2]


async def test_who_comes_as_all_lanes_end_together_is_answered() -> None:
    ended = asyncio.Event()
    taken: asyncio.Queue[int] = asyncio.Queue()

    async def together(items: Sequence[int]) -> list[int]:
        taken.put_nowait(items[0])
        await ended.wait()
        return list(items)

    coalescer = Coalescer[int, int](together, _alone, in_flight_max=2, patience_seconds=0.0)

    async def twice() -> list[int]:
        return [await coalescer.submit(number) for number in (1, 2)]

    async with asyncio.timeout(WAIT_SECONDS_MAX):
        asked = asyncio.create_task(twice())
        assert await taken.get() == 1
        other = asyncio.create_task(coalescer.submit(3))
        assert await taken.get() == 3
        ended.set()

        assert await asked == [1, 2]
        assert await other == 3


async def _echo(items: Sequence[int]) -> list[int]:
    return list(items)


async def _alone(item: int) -> int:
    return item
