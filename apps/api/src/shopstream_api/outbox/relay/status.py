"""What the relay is doing, for health and for the notifier; written by its thread alone."""

from dataclasses import dataclass
from typing import Literal

State = Literal["starting", "leading", "standby", "failing", "stopped", "off"]


@dataclass(slots=True)
class RelayStatus:
    """Single attributes are replaced whole, so readers in other threads see old or new."""

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
