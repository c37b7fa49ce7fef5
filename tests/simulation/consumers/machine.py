"""A process of the service, and its network.

A call over the network may end in every way that networks, stores and operators know: answered;
refused; lost on the way there or back; carried out long after its caller gave up; and before,
during and after it the process may be killed or stand still. What the caller learns and what was
done are two things.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, TypeVar

from tests.simulation.consumers.climate import Climate
from tests.simulation.consumers.loop import SimLoop
from tests.simulation.world import World, end

T = TypeVar("T")

#: A process that stands still does so around this long: some outlive their session.
PAUSE_SECONDS: Final = 8.0
#: What was held up arrives around this long after it was sent.
LATE_SECONDS: Final = 3.0
SOON_SECONDS: Final = 0.05
#: A caller hears around this long after that its connection is gone.
GONE_SECONDS: Final = 0.5


class Unanswered(Exception):
    """No answer came; whether the request was carried out nobody can tell."""


class Refusal(Exception):
    """The far end answers that it has not done it; each client has words of its own for it."""


class Fate(Enum):
    """How a call ends."""

    ANSWERED = auto()
    REFUSED = auto()
    REQUEST_LOST = auto()
    ANSWER_LOST = auto()
    LATE = auto()
    KILLED_BEFORE = auto()
    KILLED_DURING = auto()
    KILLED_AFTER = auto()


Plan = Callable[["Machine", str], Fate]


def drawn(machine: "Machine", _name: str) -> Fate:
    """The ordinary plan: by the climate's probabilities."""
    world, climate = machine.world, machine.climate
    if world.calm:
        return Fate.ANSWERED
    fate = world.rng.random()
    if (fate := fate - climate.crash) < 0:
        return world.rng.choice((Fate.KILLED_BEFORE, Fate.KILLED_DURING, Fate.KILLED_AFTER))
    if (fate := fate - climate.lost) < 0:
        return world.rng.choice((Fate.REQUEST_LOST, Fate.ANSWER_LOST))
    if (fate := fate - climate.late) < 0:
        return Fate.LATE
    return Fate.REFUSED if fate < climate.refused else Fate.ANSWERED


class Machine:
    """One process from its start to its end."""

    def __init__(self, world: World, climate: Climate, name: str, plan: Plan = drawn) -> None:
        self.world = world
        self.climate = climate
        self.name = name
        self.loop = SimLoop(world, self._unforeseen)  # type: ignore[abstract]  # what tasks ask for
        self.on_killed: Callable[[], None] = lambda: None
        #: Told when an operator asks the process to end.
        self.on_stop: Callable[[], None] = lambda: None
        self._plan = plan

    def note(self, what: str, detail: object = "") -> None:
        self.world.note(self.name, what, detail)

    async def call(self, name: str, request: Callable[[], T]) -> T:
        """The answer, or what the request raises. Raises Unanswered and Refusal."""
        await self.rest(self.world.some(self.climate.latency_seconds))
        fate = self._plan(self, name)
        answer = self._meet(fate, name, request)
        if self.loop.dead:
            await self.loop.create_future()
        if fate in (Fate.REQUEST_LOST, Fate.ANSWER_LOST, Fate.LATE):
            await self.rest(self.world.some(GONE_SECONDS))
            raise Unanswered
        # The answer travels, too: others act meanwhile.
        await self.rest(self.world.some(self.climate.latency_seconds))
        return answer()

    def blocking_call(self, name: str, request: Callable[[], T]) -> T:
        """As `call`, for fibers."""
        self.wait(self.world.some(self.climate.latency_seconds))
        fate = self._plan(self, name)
        answer = self._meet(fate, name, request)
        if self.loop.dead:
            end()
        if fate in (Fate.REQUEST_LOST, Fate.ANSWER_LOST, Fate.LATE):
            self.wait(self.world.some(GONE_SECONDS))
            raise Unanswered
        self.wait(self.world.some(self.climate.latency_seconds))
        return answer()

    async def rest(self, seconds: float) -> None:
        """Let time pass; longer when the process is made to stand still."""
        if self.loop.dead:
            raise asyncio.CancelledError
        self._disturbed()
        await asyncio.sleep(seconds)

    def wait(self, seconds: float) -> None:
        """As `rest`, for fibers."""
        self._disturbed()
        self.world.sleep(seconds)
        while not self.loop.dead and (left := self.loop.frozen_until - self.world.now) > 0:
            self.world.sleep(left)
        if self.loop.dead:
            end()

    def kill(self, moment: str) -> None:
        """SIGKILL: nothing of this process runs any further."""
        if self.loop.dead:
            return
        self.note("is killed", moment)
        self.loop.dead = True
        self.on_killed()

    def _disturbed(self) -> None:
        world, climate = self.world, self.climate
        if world.calm:
            return
        if world.chance(climate.pause):
            seconds = world.some(PAUSE_SECONDS)
            self.note("stands still", f"for {seconds:.1f} s")
            self.loop.frozen_until = max(self.loop.frozen_until, world.now + seconds)
            world.at_last(seconds, lambda: None)
        elif world.chance(climate.stop):
            self.note("is told to stop")
            self.on_stop()

    def _meet(self, fate: Fate, name: str, request: Callable[[], T]) -> Callable[[], T]:
        """Do what is done at the far end; the answer comes of what is returned."""
        match fate:
            case Fate.ANSWERED:
                return _outcome(request)
            case Fate.REFUSED:
                self.note(name, "is refused")
                return _raise_refusal
            case Fate.REQUEST_LOST:
                self.note(name, "is lost on its way")
            case Fate.ANSWER_LOST:
                _outcome(request)
                self.note(name, "is done, its answer lost")
            case Fate.LATE:
                self._later(name, request, LATE_SECONDS)
            case Fate.KILLED_BEFORE:
                self.kill(f"before {name}")
            case Fate.KILLED_DURING:
                self._later(name, request, SOON_SECONDS)
                self.kill(f"during {name}")
            case Fate.KILLED_AFTER:
                _outcome(request)
                self.kill(f"after {name}")
        return _raise_refusal

    def _later(self, name: str, request: Callable[[], object], seconds: float) -> None:
        def arrive() -> None:
            self.note(name, "is done late")
            _outcome(request)

        self.note(name, "is held up")
        self.world.at_last(self.world.some(seconds), arrive)

    def _unforeseen(self, what: str) -> None:
        self.note("unforeseen", what)
        self.world.broken.append(f"unforeseen: {what}")


def _raise_refusal() -> T:  # type: ignore[type-var]  # it never returns
    raise Refusal


def _outcome(request: Callable[[], T]) -> Callable[[], T]:
    """Carry it out now; the result or error is for whoever hears the answer."""
    try:
        result = request()
    except Exception as error:  # noqa: BLE001 - it is the caller's
        caught = error

        def fail() -> T:
            raise caught

        return fail
    return lambda: result


__all__ = ["Fate", "Machine", "Plan", "Refusal", "Unanswered", "drawn"]
