"""Waiting for what must arrive: bounded, told, and read once more at the end."""

import asyncio
import itertools

import httpx
import pytest

from shopstream_stack.demo import collect
from shopstream_stack.demo.crowd import until


def test_a_wait_ends_as_soon_as_it_is_complete() -> None:
    answers = itertools.chain([False, False], itertools.repeat(True))

    async def complete() -> bool:
        return next(answers)

    assert asyncio.run(collect.in_time(complete, 30.0, poll_seconds=0.0))


def test_a_wait_is_bounded() -> None:
    async def never() -> bool:
        return False

    assert not asyncio.run(collect.in_time(never, 0.0, poll_seconds=0.0))
    assert not asyncio.run(until(lambda: False, 0.0))


def test_an_error_while_waiting_is_not_swallowed() -> None:
    async def broken() -> bool:
        raise LookupError("no index")

    with pytest.raises(LookupError, match="no index"):
        asyncio.run(collect.in_time(broken, 1.0))


def test_a_place_that_is_away_is_not_complete_yet() -> None:
    calls = itertools.count()

    async def back_at_the_third() -> bool:
        if next(calls) < 2:
            raise httpx.ConnectError("refused")
        return True

    assert asyncio.run(collect.in_time(back_at_the_third, 30.0, poll_seconds=0.0))
