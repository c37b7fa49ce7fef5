"""Clients by equal filter, and filters by value: an event costs what matches it.

One join of encoded frames serves a whole group. Groups are indexed by their most selective
member, so that a record looks only at groups that could want it, not at all of them; those with
predicates on data lie in ``shelves``.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from shopstream_notifications.client import Client, Mark
from shopstream_notifications.filters import Filter
from shopstream_notifications.records import Record
from shopstream_notifications.shelves import Shelves
from shopstream_shared.events.registry import EVENT_TYPES

_ALL_TYPES: Final = frozenset(EVENT_TYPES)


class Group:
    """The clients of one filter. ``live`` ones stand at the log's end, ``behind`` ones wait."""

    __slots__ = ("behind", "filter", "live", "pending", "sent", "told", "told_version", "users")

    def __init__(self, wanted: Filter, told: int) -> None:
        self.filter = wanted
        self.live: set[Client] = set()
        self.behind: set[Client] = set()
        #: All that matched since the group exists: a client's backlog is a difference of two.
        self.sent = Mark()
        self.pending: list[Record] = []
        #: Up to which index live clients have been given an id, and of which version of the log.
        self.told = told
        self.told_version = -1
        self.users = 0


class Groups:
    """All groups; a group lives as long as it has users."""

    def __init__(self) -> None:
        self._groups: dict[Filter, Group] = {}
        self._by_subject: defaultdict[str, list[Group]] = defaultdict(list)
        self._by_seller: defaultdict[str, list[Group]] = defaultdict(list)
        self._by_type: defaultdict[str, list[Group]] = defaultdict(list)
        self._by_data: Shelves[Group] = Shelves()

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def __getitem__(self, wanted: Filter) -> Group:
        return self._groups[wanted]

    def join(self, wanted: Filter, told: int) -> Group:
        """The group of this filter, with one user more."""
        group = self._groups.get(wanted)
        if group is None:
            group = self._groups[wanted] = Group(wanted, told)
            self._place(group)
        group.users += 1
        return group

    def leave(self, client: Client) -> None:
        """Take a client out; the last one takes the group with it."""
        group = self._groups[client.filter]
        group.live.discard(client)
        group.behind.discard(client)
        group.users -= 1
        if group.users == 0:
            del self._groups[client.filter]
            self._displace(group)

    def matching(self, records: Iterable[Record]) -> list[Group]:
        """Groups with something to send; it waits in their ``pending``."""
        touched: list[Group] = []
        by_data = self._by_data or None
        for record in records:
            for places in (
                self._by_type.get(record.type, ()),
                self._by_seller.get(record.seller_id, ()),
                self._by_subject.get(record.subject, ()),
            ):
                for group in places:
                    if group.filter.matches(record):
                        if not group.pending:
                            touched.append(group)
                        group.pending.append(record)
            if by_data is not None:
                for group in by_data.matching(record):
                    if not group.pending:
                        touched.append(group)
                    group.pending.append(record)
        return touched

    def _place(self, group: Group) -> None:
        if group.filter.data:
            self._by_data.add(group.filter, group)
            return
        for places in self._places(group.filter):
            places.append(group)

    def _displace(self, group: Group) -> None:
        if group.filter.data:
            self._by_data.remove(group.filter)
            return
        for places in self._places(group.filter):
            places.remove(group)
        self._forget_empty(group.filter)

    def _places(self, wanted: Filter) -> list[list[Group]]:
        if wanted.subject is not None:
            return [self._by_subject[wanted.subject]]
        if wanted.seller_id is not None:
            return [self._by_seller[wanted.seller_id]]
        return [self._by_type[name] for name in wanted.types or _ALL_TYPES]

    def _forget_empty(self, wanted: Filter) -> None:
        if wanted.subject is not None and not self._by_subject[wanted.subject]:
            del self._by_subject[wanted.subject]
        elif wanted.seller_id is not None and not self._by_seller[wanted.seller_id]:
            del self._by_seller[wanted.seller_id]
