"""POSTs at a steady pace; each carries the moment at which it was due.

A sender that waits for an answer sends its next POST late. All times count from the moment at which
it should have gone out, so that what a stall holds up is in them.
"""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from shopstream_shared.clock import format_time
from shopstream_stack.errors import StackError

#: So many may be under way at once; then the next goes out late.
SENDERS: Final = 4
ANSWER_SECONDS_MAX: Final = 30.0
CREATED: Final = 201
#: The member of the product, and of its event's data, that has the moment.
MOMENT: Final = "description"


@dataclass(slots=True)
class Posts:
    """Creates products of one seller.

    ``answered_ms``: until each answer, from when its POST was due. ``a_second``: what was sent in
    the last run, over the time until its last answer.
    """

    address: str
    seller: str
    answered_ms: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    a_second: float = 0.0

    def run(self, per_second: float, seconds: float) -> None:
        """Send them all; returns with the last answer. Raises StackError when one is not 201."""
        at, began = datetime.now(UTC), time.monotonic()
        count = round(per_second * seconds)
        senders = [
            threading.Thread(
                target=self._send,
                args=(at, began, [one / per_second for one in range(first, count, SENDERS)]),
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
        # The last one's turn lasts until the next would have been due.
        self.a_second = count / max(seconds, time.monotonic() - began)

    def _send(self, at: datetime, began: float, offsets: Sequence[float]) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=ANSWER_SECONDS_MAX)
        try:
            connection.connect()
            for offset in offsets:
                due = began + offset
                time.sleep(max(0.0, due - time.monotonic()))
                self._post(connection, at + timedelta(seconds=offset))
                self.answered_ms.append(1_000 * (time.monotonic() - due))
        except (OSError, http.client.HTTPException) as error:
            self.faults.append(str(error))
        finally:
            connection.close()

    def _post(self, connection: http.client.HTTPConnection, due: datetime) -> None:
        body = {"name": "Lamp", "price": 9.5, "stock": 5, "sellerId": self.seller}
        # What latencies count from; the streams' generator reads the same clock.
        text = json.dumps({**body, MOMENT: format_time(due)})
        connection.request("POST", "/products", text, {"content-type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != CREATED:
            self.faults.append(f"{answer.status} {said[:200]!r}")
