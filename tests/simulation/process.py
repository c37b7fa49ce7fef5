"""A process, and the network between it and the world.

A call over the network may end in every way that networks and operators know: answered; lost on the
way there or back; carried out long after its caller gave up; and at each of its moments the process
may be killed or stand still. What the caller learns and what was done are two things.
"""

import contextlib
from collections.abc import Callable
from typing import Final, TypeVar

from tests.simulation.climate import Climate
from tests.simulation.world import Fiber, World, end

T = TypeVar("T")

#: A process that stands still does so around this long: some outlive session and transaction.
PAUSE_SECONDS: Final = 6.0
#: What was held up arrives around this long after it was sent.
LATE_SECONDS: Final = 1.5
SOON_SECONDS: Final = 0.05
#: A caller hears around this long after that its connection is gone.
REQUEST_SECONDS: Final = 0.3
#: Faults meet what they can do most harm to this many times as often as all else.
RISKS: Final = {"commit": 4, "settle": 2}
RESTART_SECONDS: Final = 1.0
#: The part of the lost connections of which the far end learns at once; of others by silence.
HEARD_OF: Final = 0.7


class Unanswered(Exception):
    """No answer came; whether the request was carried out nobody can tell."""


class Process:
    """One process after the other under one name: where one ends, the next starts."""

    def __init__(
        self,
        world: World,
        climate: Climate,
        name: str,
        transactional_id: str,
        body: "Callable[[Process], None]",
    ) -> None:
        self.world = world
        self.climate = climate
        self.name = name
        self.transactional_id = transactional_id
        self.stopping = self.killed = False
        #: What the far end does once it hears that this process is gone.
        self.hang_up: Callable[[], None] = lambda: None
        self._body = body

    def start(self) -> None:
        Fiber.of(self.world, self._run)

    def note(self, what: str, detail: object = "") -> None:
        self.world.note(self.name, what, detail)

    def call(
        self, name: str, request: Callable[[], T], hold: Callable[[int], None] = lambda _: None
    ) -> T:
        """The answer, or what the request raises. Raises Unanswered.

        ``hold`` is told +1 when a request arrives that is not carried out yet, -1 when it is.
        """
        world, climate = self.world, self.climate
        self.rest(world.some(climate.latency_seconds))
        if world.calm:
            return request()
        fate = world.rng.random() / RISKS.get(name, 1) - climate.crash
        if fate < 0:
            moment = world.rng.choice(("before", "during", "after"))
            if moment == "during":
                # A crash in the middle of a request: the rest of it is short.
                self._later(name, request, hold, SOON_SECONDS)
            elif moment == "after":
                _carry_out(request)
            self.kill(f"{moment} {name}")
        fate -= climate.lost
        if fate < 0:
            if world.chance(0.5):
                _carry_out(request)
                self.note(f"{name}: the answer is lost")
            else:
                self.note(f"{name}: the request is lost")
            self._give_up()
        if fate < climate.late:
            self._later(name, request, hold, LATE_SECONDS)
            self._give_up()
        return request()

    def rest(self, seconds: float) -> None:
        """Let time pass; longer when the process is made to stand still."""
        if self.killed:
            end()
        world, climate = self.world, self.climate
        if world.calm:
            world.sleep(seconds)
        elif world.chance(climate.pause):
            pause = world.some(PAUSE_SECONDS)
            self.note("stands still", f"for {pause:.1f} s")
            with world.pending():
                world.sleep(seconds + pause)
        else:
            if world.chance(climate.stop):
                self.note("is told to stop")
                self.stopping = True
            world.sleep(seconds)

    def kill(self, moment: str) -> None:
        """SIGKILL, from inside: nothing of this process runs any further."""
        self.note("is killed", moment)
        self.killed = True
        if self.world.chance(HEARD_OF):
            self.hang_up()
        self._follow()
        end()

    def _run(self) -> None:
        self.note("starts")
        self._body(self)
        self.note("ends")
        self._follow()

    def _follow(self) -> None:
        world = self.world
        world.at(
            world.some(RESTART_SECONDS),
            Process(world, self.climate, self.name, self.transactional_id, self._body).start,
        )

    def _give_up(self) -> None:
        self.rest(self.world.some(REQUEST_SECONDS))
        raise Unanswered

    def _later(
        self,
        name: str,
        request: Callable[[], object],
        hold: Callable[[int], None],
        seconds: float,
    ) -> None:
        def arrive() -> None:
            self.note(f"{name}: carried out late")
            _carry_out(request)
            hold(-1)

        hold(1)
        self.note(f"{name}: held up")
        self.world.at_last(self.world.some(seconds), arrive)


def _carry_out(request: Callable[[], object]) -> None:
    """Whatever comes of it, nobody hears."""
    with contextlib.suppress(Exception):
        request()
