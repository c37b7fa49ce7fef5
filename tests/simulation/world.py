"""Virtual time, fibers and one seed: who goes on next is drawn, and drawn the same way again.

A fiber is a greenlet that sleeps until a moment of virtual time; `later` lets something happen
without one. All randomness comes from `World.rng`, and nothing here asks the machine for the time
or iterates over a set, so that a seed has one trace.
"""

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final, NoReturn, Self

from greenlet import GreenletExit, greenlet

#: More events than this in one schedule are a livelock.
EVENTS_MAX: Final = 50_000


class Violation(AssertionError):
    """What must never happen did."""


@dataclass(frozen=True, slots=True)
class Note:
    """One line of a trace."""

    at: float
    who: str
    what: str
    detail: object = ""

    def __str__(self) -> str:
        return f"{self.at:10.4f} s  {self.who:<10} {self.what} {self.detail}".rstrip()


class Fiber(greenlet):
    """One thread of control; ended for good by `end`."""

    @classmethod
    def of(cls, world: "World", run: Callable[[], None]) -> Self:
        fiber = cls(run, parent=world.main)
        world.at(0, fiber.go_on)
        return fiber

    def go_on(self) -> None:
        if not self.dead:
            self.switch()


def end() -> NoReturn:
    """End the fiber that calls this; its `finally` blocks see a world that ignores them."""
    raise GreenletExit


@dataclass(slots=True)
class World:
    """The clock, the agenda and the trace of one schedule."""

    seed: int
    rng: Random = field(init=False)
    now: float = 0.0
    #: Network and processes fail only before this moment is over.
    calm: bool = False
    trace: list[Note] = field(default_factory=list)
    #: Failures that should not be possible.
    broken: list[str] = field(default_factory=list)
    events: int = 0
    main: greenlet = field(init=False)
    #: What must happen before anything can be judged.
    waiting: int = 0
    _agenda: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _numbers: int = 0

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.main = greenlet.getcurrent()

    def note(self, who: str, what: str, detail: object = "") -> None:
        self.trace.append(Note(self.now, who, what, detail))

    def number(self) -> int:
        """One that no other call has got."""
        self._numbers += 1
        return self._numbers

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Let ``action`` happen so many seconds from now."""
        heapq.heappush(self._agenda, (self.now + seconds, self.number(), action))

    def at_last(self, seconds: float, action: Callable[[], object]) -> None:
        """As `at`, and nothing is judged before it has happened."""
        self.waiting += 1

        def happen() -> None:
            self.waiting -= 1
            action()

        self.at(seconds, happen)

    @contextmanager
    def pending(self) -> Iterator[None]:
        """Nothing is judged before this block is left."""
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def sleep(self, seconds: float) -> None:
        """Let others go on; called by fibers only."""
        fiber = greenlet.getcurrent()
        assert isinstance(fiber, Fiber)
        self.at(seconds, fiber.go_on)
        self.main.switch()

    def some(self, seconds: float) -> float:
        """A delay around ``seconds``: mostly shorter, at times much longer."""
        return self.rng.expovariate(1 / seconds)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def run(self, until: Callable[[], bool], seconds_max: float) -> bool:
        """Let events happen until the condition holds; False when it does not in time."""
        limit = self.now + seconds_max
        while not until():
            if not self._agenda or self._agenda[0][0] > limit:
                return False
            self.events += 1
            if self.events > EVENTS_MAX:
                raise Violation(f"a livelock: {EVENTS_MAX} events and no end")
            self.now, _, action = heapq.heappop(self._agenda)
            action()
        return True

    def forget(self) -> None:
        """Drop what was still to come, so that nothing keeps the fibers alive."""
        self._agenda.clear()
