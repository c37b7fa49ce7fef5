"""A consumer group's coordinator: members, their sessions, who owns what, what was committed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.simulation.world import World

from shopstream_analytics.consumer.app import REBALANCE_SECONDS_MAX
from shopstream_analytics.consumer.batch import Source

SESSION_SECONDS_MAX: Final = 10.0


class FencedMember(Exception):
    """Another process has taken this static member's place."""


class UnknownMember(Exception):
    """The coordinator does not know this member any more; it may join anew."""


class Rebalancing(Exception):
    """Give up what you own and join again."""


class Given(NamedTuple):
    """What a member owns, in a generation of the group."""

    generation: int
    sources: tuple[Source, ...]


@dataclass(slots=True)
class _Member:
    instance: str | None
    seen: float
    joined: bool = False
    given: Given | None = None


def _unseen(_source: Source, _offset: int) -> None:
    """For who does not look."""


@dataclass(slots=True)
class Group:
    """One group. ``on_commit`` sees each commit that is accepted."""

    world: World
    name: str
    sources: Callable[[], list[Source]]
    on_commit: Callable[[Source, int], None] = _unseen
    committed: dict[Source, int] = field(default_factory=dict)
    generation: int = 0
    _members: dict[int, _Member] = field(default_factory=dict)
    _fenced: set[int] = field(default_factory=set)
    #: When a rebalance ends at the latest; None: there is none.
    _deadline: float | None = None

    def join(self, member: int | None, instance: str | None) -> int:
        """Take part; the member's id. Raises FencedMember."""
        self._sweep()
        if member in self._fenced:
            raise FencedMember
        now = self.world.now
        if member is not None and member in self._members:
            mine = self._members[member]
            mine.seen, mine.joined = now, True
            if self._deadline is None and mine.given is not None:
                self._rebalance()
                mine.joined = True
            self._finish()
            return member
        number = self.world.number()
        before = next(
            (n for n, m in self._members.items() if instance and m.instance == instance), None
        )
        if before is not None:
            # A static member that comes back gets what it had, and nobody else is disturbed.
            self._members[number] = self._members.pop(before)
            self._members[number].seen = now
            self._members[number].joined = True
            self._fenced.add(before)
        else:
            self._members[number] = _Member(instance, now)
            self._rebalance()
            self._members[number].joined = True
        self._finish()
        return number

    def given(self, member: int) -> Given | None:
        """What the member owns; None while that is not settled."""
        mine = self._known(member)
        self._finish()
        return None if self._deadline is not None else mine.given

    def heartbeat(self, member: int, generation: int) -> None:
        """Raises Rebalancing, FencedMember, UnknownMember."""
        mine = self._known(member)
        if self._deadline is not None or mine.given is None:
            raise Rebalancing
        if mine.given.generation != generation:
            raise UnknownMember

    def commit(self, member: int, generation: int, offsets: Mapping[Source, int]) -> None:
        """Only of what the member owns now. Raises as `heartbeat`."""
        mine = self._known(member)
        if mine.given is None or mine.given.generation != generation:
            raise UnknownMember
        for source, offset in offsets.items():
            self.on_commit(source, offset)
            self.committed[source] = offset

    def leave(self, member: int) -> None:
        if self._members.pop(member, None) is not None:
            self._rebalance()
            self._finish()

    def rebalance(self) -> None:
        """Share out anew."""
        self._rebalance()

    def _known(self, member: int) -> _Member:
        self._sweep()
        if member in self._fenced:
            raise FencedMember
        if member not in self._members:
            raise UnknownMember
        self._members[member].seen = self.world.now
        return self._members[member]

    def _sweep(self) -> None:
        """Forget whoever was silent for too long."""
        now = self.world.now
        gone = [n for n, m in self._members.items() if now - m.seen > SESSION_SECONDS_MAX]
        for number in gone:
            del self._members[number]
        if gone:
            self._rebalance()
        if self._deadline is not None and now > self._deadline:
            for number in [n for n, m in self._members.items() if not m.joined]:
                del self._members[number]
            self._finish()

    def _rebalance(self) -> None:
        if self._deadline is None:
            self._deadline = self.world.now + REBALANCE_SECONDS_MAX
            for member in self._members.values():
                member.joined = False

    def _finish(self) -> None:
        """Share out once all have joined."""
        if self._deadline is None or not all(m.joined for m in self._members.values()):
            return
        self._deadline = None
        self.generation += 1
        shares: dict[int, list[Source]] = {number: [] for number in self._members}
        numbers = list(shares)
        for source in self.sources() if numbers else ():
            shares[self.world.rng.choice(numbers)].append(source)
        for number, share in shares.items():
            self._members[number].given = Given(self.generation, tuple(share))
