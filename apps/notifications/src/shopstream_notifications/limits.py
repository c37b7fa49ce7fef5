"""How many streams a process serves, and how many of them one address or principal may have.

Sockets are counted, not handlers: a handler can be gone while the socket it wrote to stays open
until its peer leaves, and a limit on handlers is then passed by. A stream takes a place when it
begins; the place is free when its *socket* is gone.
"""

from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Final, Protocol

from shopstream_notifications.descriptors import DESCRIPTORS_RESERVED
from shopstream_notifications.refusal import Reason, Refusals

#: So many sockets above the bound are still answered with a refusal; beyond, they are dropped.
REFUSABLE_MAX: Final = DESCRIPTORS_RESERVED // 2
#: What one host is given of IPv6 (RFC 6177): its 2^64 addresses are one caller.
IPV6_PREFIX: Final = 64


@dataclass(slots=True, eq=False)
class Place:
    """Who sits somewhere: shared by all streams of one address and principal.

    ``principal`` is "" for nobody. ``network`` is what the limit counts by.
    """

    address: str
    network: str
    principal: str
    sockets: int = 0


#: Of clients that came by no socket of ours.
NOWHERE: Final = Place("", "", "")


class Connection(Protocol):
    """A socket, as far as the limits know it."""

    place: Place | None


class Limits:
    """The process's count. 0 for an address or a principal means: no limit."""

    def __init__(
        self, refusals: Refusals, *, sockets_max: int, per_address: int, per_principal: int
    ) -> None:
        self._refusals = refusals
        self._sockets_max = sockets_max
        self._per_address = per_address
        self._per_principal = per_principal
        self._places: dict[tuple[str, str], Place] = {}
        self._networks: Counter[str] = Counter()
        self._principals: Counter[str] = Counter()
        #: All open sockets, streams or not.
        self.sockets = 0

    def opened(self) -> bool:
        """Count a new socket; False when there are so many that it cannot even be answered."""
        self.sockets += 1
        if self.sockets <= self._sockets_max + REFUSABLE_MAX:
            return True
        self._refusals.dropped()
        return False

    def lost(self, connection: Connection) -> None:
        """A socket is gone, and with it its place."""
        self.sockets -= 1
        self._leave(connection)

    def seat(self, connection: Connection, address: str, principal: str) -> Place | Reason:
        """A place for the stream that begins on this socket, or why there is none.

        A socket has one place: of the stream that it carried before, the place is free.
        """
        self._leave(connection)
        network = network_of(address)
        if self.sockets > self._sockets_max:
            return "server"
        if 0 < self._per_address <= self._networks[network]:
            return "address"
        if principal and 0 < self._per_principal <= self._principals[principal]:
            return "principal"
        key = (address, principal)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = Place(address, network, principal)
        place.sockets += 1
        self._networks[network] += 1
        self._principals[principal] += 1
        connection.place = place
        return place

    def _leave(self, connection: Connection) -> None:
        place, connection.place = connection.place, None
        if place is None:
            return
        place.sockets -= 1
        if place.sockets == 0:
            del self._places[place.address, place.principal]
        for counts, name in (
            (self._networks, place.network),
            (self._principals, place.principal),
        ):
            counts[name] -= 1
            if counts[name] == 0:
                del counts[name]  # or every caller there ever was would be remembered


def network_of(address: str) -> str:
    """What counts as one caller: an IPv4 address, an IPv6 /64, or a text that is neither."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ip_network((int(found), IPV6_PREFIX), strict=False))
