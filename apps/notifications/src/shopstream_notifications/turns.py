"""Whose turn it is: a few places, many who want them, and nobody who can take them all.

Round robin over addresses, inside an address over its principals, inside those in order of
arrival. Who has one thing to do waits for one round, however much others have. A principal
divides the turns of its address: as long as it is only claimed it must not multiply them.

The queue is bounded. When it is full, the newest entry of the longest queue gives way, unless the
newcomer's own is as long: who fills the queue cannot shut others out.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shopstream_notifications.limits import Place

#: In order of arrival; a dict, because any of them may leave.
_Queue = dict["asyncio.Future[None]", None]


class TurnsFull(Exception):
    """Too many wait already."""


class _Party:
    """Those of one address: their queues by principal, next one first."""

    __slots__ = ("queues", "waiting")

    def __init__(self) -> None:
        self.queues: dict[str, _Queue] = {}
        self.waiting = 0


class Turns:
    """``places`` at a time; at most ``waiting_max`` wait."""

    def __init__(self, places: int, waiting_max: int) -> None:
        self._free = places
        self._waiting_max = waiting_max
        self._parties: dict[str, _Party] = {}
        self.waiting = 0

    @asynccontextmanager
    async def place(self, who: Place) -> AsyncIterator[None]:
        """Hold a place. Raises TurnsFull at once, or while waiting when others are before it."""
        await self._take(who)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, who: Place) -> None:
        if self._free:
            self._free -= 1
            return
        if self.waiting >= self._waiting_max:
            self._make_room(who)
        turn = asyncio.get_running_loop().create_future()
        party = self._parties.setdefault(who.network, _Party())
        party.queues.setdefault(who.principal, {})[turn] = None
        party.waiting += 1
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._remove(who.network, who.principal, turn)
            elif turn.exception() is None:
                self._give_back()  # it was given in the same step in which its client left
            raise

    def _give_back(self) -> None:
        while self.waiting:
            network, party = next(iter(self._parties.items()))
            principal, queue = next(iter(party.queues.items()))
            turn = next(iter(queue))
            self._remove(network, principal, turn)
            # To the end of the round, both.
            if queue:
                party.queues[principal] = party.queues.pop(principal)
            if party.waiting:
                self._parties[network] = self._parties.pop(network)
            if not turn.done():  # its client may have left in this very step
                turn.set_result(None)
                return
        self._free += 1

    def _make_room(self, newcomer: Place) -> None:
        """Raises TurnsFull when it is the newcomer that has most waiting."""
        network, longest = max(self._parties.items(), key=lambda item: item[1].waiting)
        own = self._parties.get(newcomer.network)
        if own is not None and own.waiting >= longest.waiting:
            network, longest = newcomer.network, own
        principal, queue = max(longest.queues.items(), key=lambda item: len(item[1]))
        if longest is own and len(own.queues.get(newcomer.principal, ())) >= len(queue):
            raise TurnsFull
        turn = next(reversed(queue))
        self._remove(network, principal, turn)
        if not turn.done():
            turn.set_exception(TurnsFull())

    def _remove(self, network: str, principal: str, turn: "asyncio.Future[None]") -> None:
        party = self._parties.get(network)
        queue = party.queues.get(principal) if party is not None else None
        if party is None or queue is None or turn not in queue:
            return  # whoever gave turns found it first
        del queue[turn]
        party.waiting -= 1
        self.waiting -= 1
        if not queue:
            del party.queues[principal]
        if not party.waiting:
            del self._parties[network]
