"""What the relays of a process are doing, for health and for the notifier."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

State = Literal["starting", "leading", "standby", "failing", "stopped", "off"]


@dataclass(slots=True)
class RelayStatus:
    """Of one shard's relay, written by its thread alone.

    Single attributes are replaced whole, so readers in other threads see old or new.
    """

    state: State = "off"
    reason: str = ""
    _led: bool = False

    def starting(self) -> None:
        # A failing relay stays failing until it leads: its new attempts are no news.
        if self.state != "failing":
            self.state = "starting"

    def leading(self) -> None:
        self.state, self.reason, self._led = "leading", "", True

    def standby(self) -> None:
        self.state, self.reason = "standby", ""

    def failed(self, reason: str) -> None:
        self.state, self.reason = "failing", reason

    def stopped(self) -> None:
        self.state = "stopped"

    def led_since_failure(self) -> bool:
        """True once after each term that came as far as leading."""
        led, self._led = self._led, False
        return led


class RelayStatuses:
    """Those of all shards that this process has a relay for; none when it runs no relay."""

    def __init__(self) -> None:
        self._of: dict[int, RelayStatus] = {}

    def add(self, shard: int) -> RelayStatus:
        """One more, about to start."""
        status = RelayStatus("starting")
        self._of = {**self._of, shard: status}
        return status

    def leads_all(self) -> bool:
        """Whether no relay of another process need be told of commits."""
        return bool(self._of) and all(one.state == "leading" for one in self._of.values())

    def sick(self) -> str | None:
        """What is wrong, or None."""
        return self._told({"failing", "stopped", "starting"}) or None

    def well(self) -> str:
        """Who leads and who stands by; one word where there is one shard."""
        return self._told({"leading", "standby"}) or "off"

    def _told(self, states: Collection[State]) -> str:
        found = {shard: one for shard, one in self._of.items() if one.state in states}
        return "; ".join(
            (f"shard {shard} " if len(self._of) > 1 else "")
            + (f"{one.state}: {one.reason}" if one.reason else one.state)
            for shard, one in found.items()
        )
