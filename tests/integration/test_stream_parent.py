"""What the parent does with workers that misbehave: small programs that speak the workers' words.

The same parent with real workers is in test_stream_workers.py.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.system import wait_until

from shopstream_notifications import parent as parents
from shopstream_notifications.life import Life, Orders
from shopstream_notifications.parent import Parent
from shopstream_notifications.run_dir import RunDir, run_dir
from shopstream_notifications.settings import NotificationsSettings
from shopstream_shared.children import Pauses

#: Reports until it is told to end; `deaf` ignores that, `sick` never serves, `mute` says one word,
#: `slow` begins late, `noisy` says first what is no report.
WORKER = """
import signal, socket, sys, time
kind, line = sys.argv[1], socket.socket(fileno=int(sys.argv[-1]))
if kind == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if kind == "slow":
    time.sleep(1.5)
if kind == "noisy":
    line.sendall(b"x" * 200_000 + b"\\n" + b'{"streams":\\n')
trouble = b'"ill"' if kind == "sick" else b"null"
while True:
    line.send(b'{"streams":1,"trouble":' + trouble + b"}\\n")
    time.sleep(3600 if kind == "mute" else 0.05)
"""


def orders(kind: str) -> Orders:
    return Orders(program=(sys.executable, "-c", WORKER, kind))


@pytest.fixture
def folder() -> Iterator[RunDir]:
    with run_dir() as made:
        yield made


def with_parent(
    folder: RunDir, given: Orders, test: Callable[[Parent], Awaitable[None]], *, drain: str = "0"
) -> None:
    """Run the test beside a parent of two; it must end by itself afterwards."""
    settings = NotificationsSettings.model_validate(
        {"SHOPSTREAM_NOTIFICATIONS_WORKERS": "2", "SHOPSTREAM_DRAIN_SECONDS": drain}
    )

    async def run() -> None:
        parent = Parent(settings, folder, given)
        running = asyncio.create_task(parent.run())
        try:
            await test(parent)
        finally:
            parent.stop()
            await asyncio.wait_for(running, 15)

    asyncio.run(run())


def pids(parent: Parent) -> list[int]:
    return [member.pid for member in parent.picture().members]


def states(parent: Parent) -> list[str]:
    return [member.state for member in parent.picture().members]


async def until(holds: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, holds, what)


async def both_serve(parent: Parent) -> list[int]:
    await until(lambda: states(parent) == ["serving"] * 2, "both to serve")
    return pids(parent)


@pytest.mark.parametrize("kind", ["sick", "gone"])
def test_a_rolling_restart_whose_successor_does_not_serve_leaves_the_workers_as_they_are(
    kind: str, folder: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parents, "SUCCESSOR_SECONDS_MAX", 1.0)

    async def test(parent: Parent) -> None:
        before = await both_serve(parent)
        program = (sys.executable, "-c", "pass") if kind == "gone" else orders("sick").program
        parent._orders = replace(parent._orders, program=program)
        parent.roll()
        assert parent._rolls is not None
        await parent._rolls
        await until(lambda: len(pids(parent)) == 2, "the successor to be gone")
        assert pids(parent) == before
        assert states(parent) == ["serving"] * 2

    with_parent(folder, orders("well"), test)


def test_a_rolling_restart_is_not_begun_twice_at_a_time(folder: RunDir) -> None:
    async def test(parent: Parent) -> None:
        before = await both_serve(parent)
        parent.roll()
        under_way = parent._rolls
        parent.roll()
        assert parent._rolls is under_way
        assert under_way is not None
        await under_way
        after = await both_serve(parent)
        assert not set(before) & set(after)
        assert parent._slots <= {0, 1, 2}, "one slot more than workers is enough for ever"

    with_parent(folder, orders("well"), test)


def test_a_worker_that_does_not_end_when_asked_is_killed_after_its_drain(
    folder: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parents, "AFTER_DRAIN_SECONDS_MAX", 0.5)
    left: list[int] = []

    async def test(parent: Parent) -> None:
        left.extend(await both_serve(parent))

    with_parent(folder, orders("deaf"), test)
    for pid in left:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_deaf_worker_that_was_being_started_at_the_stop_is_killed_as_well(
    folder: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parents, "AFTER_DRAIN_SECONDS_MAX", 0.5)
    begin = Life.begin
    begun: list[int] = []

    async def test(parent: Parent) -> None:
        async def begin_late(*args: Any) -> Life:
            life = await begin(*args)
            pid = life.as_member().pid
            await until(lambda: is_deaf(pid), "it to be deaf")
            begun.append(pid)
            parent.stop()
            return life

        monkeypatch.setattr(Life, "begin", begin_late)
        await parent.stopping.wait()

    with_parent(folder, orders("deaf"), test)
    assert begun
    for pid in begun:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def is_deaf(pid: int) -> bool:
    """Whether the process ignores SIGTERM by now."""
    ignored = re.search(r"^SigIgn:\s+(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return ignored is not None and bool(int(ignored[1], 16) & 1 << signal.SIGTERM - 1)


def test_a_worker_that_says_nothing_more_is_killed_and_another_takes_its_slot(
    folder: RunDir,
) -> None:
    async def test(parent: Parent) -> None:
        before = await both_serve(parent)
        await until(lambda: not set(before) & set(pids(parent)), "both to be killed")
        await until(lambda: len(pids(parent)) == 2, "others in their place")

    with_parent(folder, replace(orders("mute"), silent_seconds_max=0.5), test)


def test_a_stop_while_a_dead_worker_waits_for_its_next_life_is_not_held_up(
    folder: RunDir,
) -> None:
    async def test(parent: Parent) -> None:
        for pid in await both_serve(parent):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: pids(parent) == [], "both to be gone")

    with_parent(folder, orders("well"), test)


def test_a_worker_in_trouble_is_shown_by_its_own_words(folder: RunDir) -> None:
    async def test(parent: Parent) -> None:
        def troubles() -> list[str | None]:
            return [member.trouble for member in parent.picture().members]

        await until(lambda: troubles() == ["ill", "ill"], "their trouble")
        assert states(parent) == ["starting"] * 2

    with_parent(folder, orders("sick"), test)


def test_a_worker_that_dies_while_its_successor_starts_is_replaced_once(folder: RunDir) -> None:
    async def test(parent: Parent) -> None:
        before = await both_serve(parent)
        parent._orders = replace(parent._orders, program=orders("slow").program)
        parent.roll()
        await until(lambda: len(pids(parent)) == 3, "the first successor to be started")
        os.kill(before[0], signal.SIGKILL)
        assert parent._rolls is not None
        await parent._rolls
        await until(lambda: len(pids(parent)) == 2, "the one too many to leave")
        after = await both_serve(parent)
        assert not set(before) & set(after)

    with_parent(folder, orders("well"), test)


def test_a_seat_that_was_given_away_meanwhile_is_not_taken_twice(folder: RunDir) -> None:
    async def test(parent: Parent) -> None:
        before = await both_serve(parent)
        await parent._seats[0]._take_another(Pauses())
        await until(lambda: len(pids(parent)) == 2, "the one too many to leave")
        assert pids(parent) == before

    with_parent(folder, orders("well"), test)


def test_a_program_that_cannot_be_started_is_tried_again(folder: RunDir) -> None:
    async def test(parent: Parent) -> None:
        before = await both_serve(parent)
        good = parent._orders
        parent._orders = replace(good, program=("/nowhere/program",))
        for _ in range(3):
            parent.roll()
            assert parent._rolls is not None
            await parent._rolls
            assert pids(parent) == before
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: len(pids(parent)) == 1, "its end")
        parent._orders = good
        assert before[1] in await both_serve(parent)

    with_parent(folder, orders("well"), test)


def test_what_is_no_report_is_not_read_and_breaks_nothing(folder: RunDir) -> None:
    async def test(parent: Parent) -> None:
        await both_serve(parent)

    with_parent(folder, orders("noisy"), test)
