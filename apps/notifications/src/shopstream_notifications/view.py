"""One open stream as an operator sees it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from shopstream_notifications.client import Client
from shopstream_notifications.groups import Group
from shopstream_notifications.hub import Hub
from shopstream_shared.clock import format_time

#: live: has all there is; behind: its socket is full; replaying: on its way to the live edge.
State = Literal["live", "behind", "replaying"]
STATES: Final = get_args(State)


@dataclass(frozen=True, slots=True)
class View:
    """``lag_records`` counts records of the shared log past the client's cursor, None where it has
    no cursor yet; ``bytes_waiting`` what its filter lets through of them, buffers apart."""

    state: State
    lag_records: int | None
    bytes_waiting: int


def view(hub: Hub, client: Client) -> View:
    """How far the client is."""
    group = hub.groups[client.filter]
    if client in group.live:
        return View("live", 0, 0)
    if client in group.behind and hub.log is not None:
        return View("behind", hub.log.end - client.cursor, bytes_waiting(group, client))
    return View("replaying", None, 0)


def bytes_waiting(group: Group, client: Client) -> int:
    """What the group was sent since the client fell behind: references, held once for all."""
    return group.sent.bytes - client.behind_from.bytes


def moment(epoch_seconds: float) -> str:
    """As all times of this service are written."""
    return format_time(datetime.fromtimestamp(epoch_seconds, UTC))
