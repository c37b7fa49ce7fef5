"""Cold replays of a crowd and of one newcomer, through the real readers of a real broker."""

import contextlib
import select
import signal
import socket
import time
import uuid
from datetime import UTC, datetime
from typing import Final

from tests.support.components import LocalComponents
from tests.support.stream_service import Publisher, StreamService, an_event

from shopstream_shared.clock import epoch_ms

CROWD: Final = 40
#: Each replay reads all of them: four slices of 2,000.
EVENTS: Final = 7_000
SECONDS_MAX: Final = 60.0


def asked(service: StreamService, query: str, address: str) -> socket.socket:
    """A connection with its request on the way."""
    client = socket.create_connection(("127.0.0.1", service.port))
    head = f"GET /events/stream{query} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\n\r\n"
    client.sendall(head.encode())
    return client


def arrivals(clients: list[socket.socket], wanted: bytes, got: list[bytes]) -> list[int]:
    """The order in which the clients, by their places in the list, got these bytes.

    The last of the list is looked at first, so that a test process that was held up does not
    take for later what came meanwhile. ``got`` is what each has received before.
    """
    order: list[int] = []
    deadline = time.monotonic() + SECONDS_MAX
    while len(order) < len(clients):
        assert time.monotonic() < deadline, f"only {order} of {len(clients)}"
        ready, _, _ = select.select(clients, (), (), 1.0)
        for place in reversed(range(len(clients))):
            if clients[place] in ready:
                got[place] += clients[place].recv(65_536)
            if place not in order and wanted in got[place]:
                order.append(place)
    return order


def test_a_newcomer_does_not_wait_for_the_cold_replays_of_another_address(
    components: LocalComponents,
) -> None:
    since = epoch_ms(datetime.now(UTC))
    # Of one subject, so in one partition: the last of them is in everybody's last slice.
    subject = uuid.uuid4().hex
    last = an_event("product.deleted", subject=subject)
    publisher = Publisher(components.kafka_brokers)
    publisher.publish(*(an_event("product.updated", subject=subject) for _ in range(EVENTS)), last)
    query = f"?since={since}&subject={subject}&types=product.deleted"
    with (
        contextlib.ExitStack() as sockets,
        StreamService(components.kafka_brokers, SHOPSTREAM_TRUSTED_PROXIES="127.0.0.1") as service,
    ):
        clients = [sockets.enter_context(asked(service, query, "192.0.2.1")) for _ in range(CROWD)]
        got = [b""] * CROWD
        arrivals(clients, b"stream.open", got)
        # The newcomer stands behind all of them, however long its request takes to get there.
        service.process.send_signal(signal.SIGSTOP)
        clients.append(sockets.enter_context(asked(service, query, "192.0.2.2")))
        service.process.send_signal(signal.SIGCONT)
        order = arrivals(clients, last.value, [*got, b""])
    # First come, first served, it would have been among the last.
    assert order.index(CROWD) <= CROWD // 2, order
    assert sorted(order) == list(range(CROWD + 1)), "nobody is forgotten either"
