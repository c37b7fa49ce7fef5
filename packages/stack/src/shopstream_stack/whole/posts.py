"""POSTs at a steady pace, whatever their answers take; each carries the moment of its sending."""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from shopstream_shared.clock import format_time
from shopstream_stack.errors import StackError

#: So many may be under way at once without one waiting for another's answer.
SENDERS: Final = 4
ANSWER_SECONDS_MAX: Final = 30.0
CREATED: Final = 201
#: The member of the product, and of its event's data, that has the moment.
MOMENT: Final = "description"


@dataclass(slots=True)
class Posts:
    """Creates products of one seller. ``answered_ms``: how long each answer took."""

    address: str
    seller: str
    answered_ms: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def run(self, per_second: float, seconds: float) -> None:
        """Send them all; returns with the last answer. Raises StackError when one is not 201."""
        began, count = time.monotonic(), round(per_second * seconds)
        senders = [
            threading.Thread(
                target=self._send,
                args=([began + number / per_second for number in range(first, count, SENDERS)],),
                name=f"posts-{first}",
            )
            for first in range(SENDERS)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        if self.faults:
            raise StackError(f"POST /products: {self.faults[0]}")

    def _send(self, moments: Sequence[float]) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=ANSWER_SECONDS_MAX)
        try:
            connection.connect()
            for due in moments:
                time.sleep(max(0.0, due - time.monotonic()))
                self._post(connection)
        except (OSError, http.client.HTTPException) as error:
            self.faults.append(str(error))
        finally:
            connection.close()

    def _post(self, connection: http.client.HTTPConnection) -> None:
        body = {"name": "Lamp", "price": 9.5, "stock": 5, "sellerId": self.seller}
        began = time.perf_counter()
        # Just before it goes out: what latencies count from.
        text = json.dumps({**body, MOMENT: format_time(datetime.now(UTC))})
        connection.request("POST", "/products", text, {"content-type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        self.answered_ms.append(1_000 * (time.perf_counter() - began))
        if answer.status != CREATED:
            self.faults.append(f"{answer.status} {said[:200]!r}")
