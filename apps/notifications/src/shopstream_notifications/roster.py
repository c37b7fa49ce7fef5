"""The open streams of this process, as operators ask for them: a page at a time, or to be ended."""

from itertools import islice
from typing import Any, Final

import msgspec

from shopstream_notifications.client import Client
from shopstream_notifications.hub import Hub
from shopstream_notifications.pulse import Pulse
from shopstream_notifications.view import View, moment, view

#: So many clients are looked at for one page: a page may be short, but never holds up the loop.
SCAN_MAX: Final = 5_000


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which streams, and how many of them, past number ``after``; None in a member means: any."""

    after: int = 0
    limit: int
    policy: str | None = None
    state: str | None = None
    address: str | None = None
    principal: str | None = None
    seller_id: str | None = None
    subject: str | None = None
    type: str | None = None

    def matches(self, client: Client, seen: View) -> bool:
        place, wanted = client.place, client.filter
        return (
            self.policy in {None, client.policy}
            and self.state in {None, seen.state}
            and self.address in {None, place.address, place.network}
            and self.principal in {None, place.principal}
            and self.seller_id in {None, wanted.seller_id}
            and self.subject in {None, wanted.subject}
            and (self.type is None or wanted.types is None or self.type in wanted.types)
        )


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """``last`` is the number up to which was looked; ``more``: there are streams past it."""

    rows: list[dict[str, Any]]
    last: int
    more: bool


class Roster:
    """``worker`` tells this process's ids from those of others on the same port."""

    def __init__(self, hub: Hub, pulse: Pulse, worker: int) -> None:
        self._hub = hub
        self._pulse = pulse
        self.worker = worker

    def page(self, wanted: Wanted) -> Page:
        """The next streams, oldest first."""
        rows: list[dict[str, Any]] = []
        last, full = wanted.after, False
        later = (c for c in self._hub.clients.values() if c.number > wanted.after)
        for client in islice(later, SCAN_MAX):
            full = len(rows) == wanted.limit
            if full:
                break
            last = client.number
            seen = view(self._hub, client)
            if wanted.matches(client, seen):
                rows.append(self._row(client, seen))
        return Page(rows=rows, last=last, more=full or next(later, None) is not None)

    def end(self, number: int) -> bool:
        """Say goodbye to a stream; False when there is none of that number."""
        client = self._hub.clients.get(number)
        if client is None:
            return False
        self._pulse.say_goodbye(client, "kicked")
        return True

    def _row(self, client: Client, seen: View) -> dict[str, Any]:
        query: dict[str, list[str]] = {}
        for name, text in client.filter.parameters():
            query.setdefault(name, []).append(text)
        return {
            "id": f"{self.worker}-{client.number}",
            "address": client.place.address,
            "principal": client.place.principal or None,
            "filter": query,
            "policy": client.policy,
            "state": seen.state,
            "lagRecords": seen.lag_records,
            "bytesWaiting": seen.bytes_waiting,
            "since": moment(client.since),
        }
