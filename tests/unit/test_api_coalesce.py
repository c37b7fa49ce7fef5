"""Concurrent single items share a call: bounds, order, and each with its own answer."""

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from shopstream_api.db.coalesce import Coalescer
from shopstream_api.errors import NotFound, Unavailable

WAIT_SECONDS_MAX = 10.0

pytestmark = pytest.mark.anyio


class Store:
    """What calls arrive; each stands still until it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.alone: list[int] = []
        self.failures: list[Exception] = []
        self.open = asyncio.Event()
        self.arrived: asyncio.Queue[int] = asyncio.Queue()

    async def together(self, items: Sequence[int]) -> list[int | Exception]:
        self.calls.append(list(items))
        self.arrived.put_nowait(len(items))
        await self.open.wait()
        if self.failures:
            raise self.failures.pop()
        return [-item if item else NotFound("There is no 0.") for item in items]

    async def one(self, item: int) -> int:
        self.alone.append(item)
        if item == 0:
            raise NotFound("There is no 0.")
        return -item


def made(
    store: Store,
    *,
    in_flight_max: int = 1,
    rows_max: int = 200,
    waiting_max: int = 2_000,
    patience_seconds: float = 0.0,
) -> Coalescer[int, int]:
    return Coalescer(
        store.together,
        store.one,
        in_flight_max=in_flight_max,
        rows_max=rows_max,
        waiting_max=waiting_max,
        patience_seconds=patience_seconds,
    )


def submitted(coalescer: Coalescer[int, int], *items: int) -> list["asyncio.Task[int]"]:
    return [asyncio.create_task(coalescer.submit(item)) for item in items]


async def turns() -> None:
    """Time for a patience of nothing to end, and for another call to begin."""
    for _ in range(10):
        await asyncio.sleep(0)


async def results(tasks: Sequence[Awaitable[int]]) -> list[int | BaseException]:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_arrives_meanwhile_shares_the_next_call_in_its_order() -> None:
    store = Store()
    coalescer = made(store)
    first = submitted(coalescer, 1)
    await store.arrived.get()
    rest = submitted(coalescer, 5, 3, 4)
    await asyncio.sleep(0)
    store.open.set()

    assert await results([*first, *rest]) == [-1, -5, -3, -4]
    assert store.calls == [[1], [5, 3, 4]]


async def test_what_arrives_at_once_shares_the_first_call() -> None:
    store = Store()
    store.open.set()

    assert await results(submitted(made(store, in_flight_max=2), 1, 2, 3)) == [-1, -2, -3]
    assert store.calls == [[1, 2, 3]]


async def test_no_more_calls_are_under_way_than_allowed() -> None:
    store = Store()
    coalescer = made(store, in_flight_max=2)
    tasks = []
    for item in (1, 2):
        tasks += submitted(coalescer, item)
        await store.arrived.get()
    for item in (3, 4):
        tasks += submitted(coalescer, item)
        await turns()
    assert store.calls == [[1], [2]]
    store.open.set()

    assert await results(tasks) == [-1, -2, -3, -4]
    assert store.calls == [[1], [2], [3, 4]]


async def test_while_a_call_takes_no_longer_than_calls_do_there_is_one() -> None:
    store = Store()
    coalescer = made(store, in_flight_max=2, patience_seconds=WAIT_SECONDS_MAX)
    tasks = submitted(coalescer, 1)
    await store.arrived.get()
    tasks += submitted(coalescer, 2, 3)
    await asyncio.sleep(0)
    assert store.calls == [[1]]
    store.open.set()

    assert await results(tasks) == [-1, -2, -3]
    assert store.calls == [[1], [2, 3]]


async def test_who_waits_for_a_call_that_takes_long_is_served_beside_it() -> None:
    store = Store()
    coalescer = made(store, in_flight_max=2, patience_seconds=0.05)
    stuck = submitted(coalescer, 1)
    await store.arrived.get()
    first, store.open = store.open, asyncio.Event()
    store.open.set()
    # They wait when patience ends, and nobody comes after them.
    assert await results(submitted(coalescer, 2, 3)) == [-2, -3]
    assert not stuck[0].done()
    # Who comes later finds a call that is late already.
    assert await results(submitted(coalescer, 4)) == [-4]
    first.set()
    assert await results(stuck) == [-1]


async def test_a_lane_that_was_late_once_is_prompt_again_with_its_next_call() -> None:
    store = Store()
    coalescer = made(store, in_flight_max=2)
    tasks = submitted(coalescer, 1)
    await store.arrived.get()
    await turns()
    assert coalescer._late
    # One lane only: what it takes next is waiting when its call ends.
    coalescer._patience_seconds = WAIT_SECONDS_MAX
    coalescer._in_flight_max = 1
    tasks += submitted(coalescer, 2)
    await asyncio.sleep(0)
    first, store.open = store.open, asyncio.Event()
    first.set()
    await store.arrived.get()
    coalescer._in_flight_max = 2
    tasks += submitted(coalescer, 3)
    await turns()
    assert store.calls == [[1], [2]]
    store.open.set()

    assert await results(tasks) == [-1, -2, -3]


async def test_what_was_late_leaves_who_waits_to_whoever_was_not() -> None:
    store = Store()
    coalescer = made(store, in_flight_max=2)
    late = submitted(coalescer, 1)
    await store.arrived.get()
    first, store.open = store.open, asyncio.Event()
    coalescer._patience_seconds = WAIT_SECONDS_MAX
    prompt = submitted(coalescer, 2)
    await store.arrived.get()
    waiting = submitted(coalescer, 3, 4)
    await asyncio.sleep(0)
    first.set()
    assert await results(late) == [-1]
    assert store.calls == [[1], [2]]
    store.open.set()

    assert await results([*prompt, *waiting]) == [-2, -3, -4]
    assert store.calls == [[1], [2], [3, 4]]


async def test_a_call_takes_no_more_than_its_bound() -> None:
    store = Store()
    store.open.set()

    assert await results(submitted(made(store, rows_max=2), 1, 2, 3, 4, 5)) == [-1, -2, -3, -4, -5]
    assert store.calls == [[1, 2], [3, 4], [5]]


async def test_who_comes_to_a_full_queue_is_told_to_come_again() -> None:
    store = Store()
    coalescer = made(store, waiting_max=2)
    served = submitted(coalescer, 1)
    await store.arrived.get()
    served += submitted(coalescer, 2, 3)
    await asyncio.sleep(0)

    with pytest.raises(Unavailable):
        await coalescer.submit(4)
    store.open.set()
    assert await results(served) == [-1, -2, -3]


async def test_a_refused_item_does_not_fail_its_neighbours() -> None:
    store = Store()
    store.open.set()

    one, none, two = await results(submitted(made(store), 1, 0, 2))
    assert (one, two) == (-1, -2)
    assert isinstance(none, NotFound)
    assert store.alone == []


async def test_when_the_whole_call_is_refused_each_item_goes_alone() -> None:
    store = Store()
    store.open.set()
    store.failures = [ValueError("a constraint")]

    one, none, two = await results(submitted(made(store), 1, 0, 2))
    assert (one, two) == (-1, -2)
    assert isinstance(none, NotFound)
    assert store.alone == [1, 0, 2]


async def test_when_it_is_not_known_what_happened_nothing_is_repeated() -> None:
    store = Store()
    store.open.set()
    store.failures = [Unavailable("The connection was lost.")]

    answers = await results(submitted(made(store), 1, 2))
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
    assert answers[0] is not answers[1]
    assert store.alone == []


async def test_a_request_that_goes_away_leaves_its_batch_alone() -> None:
    store = Store()
    coalescer = made(store)
    tasks = submitted(coalescer, 1, 2, 3)
    await store.arrived.get()
    tasks[1].cancel()
    await asyncio.sleep(0)
    store.open.set()

    first, gone, last = await results(tasks)
    assert (first, last) == (-1, -3)
    assert isinstance(gone, asyncio.CancelledError)


async def test_a_request_that_goes_away_while_it_waits_is_not_done_at_all() -> None:
    store = Store()
    coalescer = made(store)
    tasks = submitted(coalescer, 1)
    await store.arrived.get()
    tasks += submitted(coalescer, 2, 3)
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    store.open.set()

    await results(tasks)
    assert store.calls == [[1], [3]]


async def test_requests_that_go_away_are_not_done_one_by_one_either() -> None:
    store = Store()
    coalescer = made(store)
    tasks = submitted(coalescer, 1, 2)
    await store.arrived.get()
    tasks[0].cancel()
    await asyncio.sleep(0)
    store.failures = [ValueError("a constraint")]
    store.open.set()

    await results(tasks)
    assert store.alone == [2]


async def test_who_waits_when_the_service_stops_is_told_so() -> None:
    store = Store()
    coalescer = made(store)
    tasks = submitted(coalescer, 1)
    await store.arrived.get()
    (lane,) = coalescer._lanes
    lane.cancel()

    (answer,) = await results(tasks)
    assert isinstance(answer, Unavailable)
