"""The parent of several workers on one port: starts them, watches them, replaces them.

It serves nothing itself, so that it has nothing to hang on; what it knows it tells the workers, and
any of them answers for all.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Final

import uvloop

from shopstream_notifications import shared_metrics
from shopstream_notifications.life import Life, Orders
from shopstream_notifications.members import Members
from shopstream_notifications.run_dir import RunDir, run_dir
from shopstream_notifications.settings import NotificationsSettings
from shopstream_shared.children import Pauses
from shopstream_shared.logs import get_logger
from shopstream_shared.web import reserve

TELL_SECONDS: Final = 1.0
#: A worker's goodbyes take the drain; what follows them takes this long, then it is killed. Below
#: the promised five seconds.
AFTER_DRAIN_SECONDS_MAX: Final = 4.5
#: A successor that does not serve by then is given up, and the rolling restart with it.
SUCCESSOR_SECONDS_MAX: Final = 60.0

_log = get_logger(__name__)


class Seat:
    """One of the workers that there should be, whichever process that is at the moment."""

    def __init__(self, parent: "Parent") -> None:
        self._parent = parent
        self.life: Life | None = None
        self._ended: asyncio.Task[int] | None = None

    async def run(self) -> None:
        """Keep the seat taken until the parent stops."""
        pauses = Pauses()
        while not self._parent.stopping.is_set():
            life, ended = self.life, self._ended
            if life is None or ended is None:
                await self._take_another(pauses)
                continue
            code = await asyncio.shield(ended)
            if life is not self.life:
                continue  # replaced; its successor has the seat
            self.life = None
            if self._parent.stopping.is_set():
                return
            pause = pauses.after(life.age_seconds)
            _log.warning("stream.worker_ended", slot=life.slot, code=code, pause_seconds=pause)
            await self._parent.pause(pause)

    async def _take_another(self, pauses: Pauses) -> None:
        try:
            begun = await self._parent.begin()
        except OSError as error:
            # No memory, no descriptor: the other workers go on, and so does the trying.
            _log.error("stream.worker_not_started", error=type(error).__name__)
            await self._parent.pause(pauses.after(0.0))
            return
        if self.life is None:
            self.life, self._ended = begun
        else:
            # Its predecessor died while a rolling restart was at this seat.
            self._parent.dismiss(*begun)

    async def replace(self) -> bool:
        """Seat a successor, then let the present worker drain; False when it does not serve."""
        try:
            successor = await self._parent.begin()
        except OSError:
            return False
        try:
            async with asyncio.timeout(SUCCESSOR_SECONDS_MAX):
                done = asyncio.create_task(successor[0].serves())
                await asyncio.wait((done, successor[1]), return_when=asyncio.FIRST_COMPLETED)
                done.cancel()
        except TimeoutError:
            successor[0].kill()
        if successor[1].done() or successor[0].as_member().state != "serving":
            return False
        # Whoever has the seat now: the one of the beginning may have died since.
        before, ended = self.life, self._ended
        self.life, self._ended = successor
        if before is not None and ended is not None:
            await self._parent.let_go(before, ended)
        return True


class Parent:
    """All seats of one port. ``run`` in an event loop; `stop` and `roll` from the same."""

    def __init__(
        self, settings: NotificationsSettings, folder: RunDir, orders: Orders | None = None
    ) -> None:
        self.stopping = asyncio.Event()
        self._drain_seconds = settings.drain_seconds
        self._folder = folder
        self._orders = orders or Orders()
        self._seats = [Seat(self) for _ in range(settings.workers)]
        self._lives: dict[Life, asyncio.Task[int]] = {}
        self._slots: set[int] = set()
        self._changed = asyncio.Event()
        self._rolls: asyncio.Task[None] | None = None
        self._dismissals: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until stopped and the last worker has ended."""
        telling = asyncio.create_task(self._tell_on(), name="telling")
        try:
            async with asyncio.TaskGroup() as group:
                for seat in self._seats:
                    group.create_task(seat.run(), name="seat")
                await self.stopping.wait()
                for life, ended in list(self._lives.items()):
                    group.create_task(self.let_go(life, ended), name="goodbye")
        finally:
            telling.cancel()
            for life in self._lives:
                life.kill()

    def stop(self) -> None:
        """Drain all workers at once, then end."""
        self.stopping.set()

    def roll(self) -> None:
        """Replace the workers one after the other; nothing while that is under way."""
        if self._rolls is None or self._rolls.done():
            self._rolls = asyncio.create_task(self._roll(), name="rolling restart")

    async def begin(self) -> tuple[Life, "asyncio.Task[int]"]:
        """Start a worker in the first free slot; it has ended again if the parent stops meanwhile.

        Raises OSError.
        """
        slot = next((n for n in range(len(self._seats) + 1) if n not in self._slots), None)
        if slot is None:
            raise OSError("every slot is taken by a worker that has yet to end")
        self._slots.add(slot)
        try:
            life = await Life.begin(slot, self._folder, self._orders, self._changed.set)
        except BaseException:
            self._slots.remove(slot)
            raise
        ended = asyncio.create_task(life.live(), name=f"worker {slot}")
        self._lives[life] = ended
        ended.add_done_callback(lambda _task: self._forget(life))
        if self.stopping.is_set():
            # The stop came while it was being started.
            await self.let_go(life, ended)
        return life, ended

    async def let_go(self, life: Life, ended: "asyncio.Task[int]") -> None:
        """Let a worker say its goodbyes, and end it if that takes too long."""
        life.leave()
        done, _ = await asyncio.wait(
            (ended,), timeout=self._drain_seconds + AFTER_DRAIN_SECONDS_MAX
        )
        if not done:
            _log.error("stream.worker_killed", slot=life.slot, reason="did not end")
            life.kill()
            await asyncio.wait((ended,))

    def dismiss(self, life: Life, ended: "asyncio.Task[int]") -> None:
        """`let_go` a worker that nobody waits for."""
        leaving = asyncio.create_task(self.let_go(life, ended), name="dismissal")
        self._dismissals.add(leaving)
        leaving.add_done_callback(self._dismissals.discard)

    async def pause(self, seconds: float) -> None:
        """Wait, but not past the stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()

    def picture(self) -> Members:
        """All workers there are now."""
        members = sorted((life.as_member() for life in self._lives), key=lambda one: one.slot)
        return Members(wanted=len(self._seats), members=members)

    def _forget(self, life: Life) -> None:
        del self._lives[life]
        self._slots.remove(life.slot)
        shared_metrics.forget_gauges(life.slot, self._folder.metrics)
        self._changed.set()

    async def _roll(self) -> None:
        _log.info("stream.rolling_restart", workers=len(self._seats))
        for number, seat in enumerate(self._seats, 1):
            if self.stopping.is_set():
                return
            if not await seat.replace():
                _log.error("stream.rolling_restart_ended", replaced=number - 1)
                return
        _log.info("stream.rolling_restart_done", workers=len(self._seats))

    async def _tell_on(self) -> None:
        while True:
            self._changed.clear()
            picture = self.picture()
            for life in self._lives:
                life.tell(picture)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TELL_SECONDS):
                    await self._changed.wait()


def run_parent(settings: NotificationsSettings) -> None:
    """Serve with several workers until SIGTERM or SIGINT; SIGHUP replaces them one by one."""
    # Bound and not listening: it gets no connection, and no second service joins the port.
    held = reserve(settings.host, settings.port)
    port = held.getsockname()[1]
    with held, run_dir() as folder:
        uvloop.run(_run(settings, folder, Orders(environ=(("PORT", str(port)),))))


async def _run(settings: NotificationsSettings, folder: RunDir, orders: Orders) -> None:
    parent = Parent(settings, folder, orders)
    handlers: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGTERM: parent.stop,
        signal.SIGINT: parent.stop,
        signal.SIGHUP: parent.roll,
    }
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    await parent.run()
