"""Slow readers over real TCP: what each policy gives to one that stalls and then reads on."""

import asyncio
import http.client
import json
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final, Self

import pytest
from tests.support.components import LocalComponents
from tests.support.stream_service import Publisher, StreamService, an_event
from tests.support.system import wait_until

from shopstream_shared.events.codec import EncodedEvent
from shopstream_stack.sse_parser import SseEvent, SseParser

#: Several times what the kernel's buffers and the client's bound of 64 KiB take.
EVENTS: Final = 6_000
SUBJECTS: Final = 40


class Reader:
    """A client with a small window that reads only when it is told to."""

    def __init__(self, service: StreamService, policy: str) -> None:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", service.port))
        self._http = http.client.HTTPConnection("127.0.0.1", service.port)
        self._http.sock = connection
        self._http.request("GET", f"/events/stream?policy={policy}")
        self._answer = self._http.getresponse()
        self.parser = SseParser("")
        self.events: list[SseEvent] = []
        self.read_until(lambda: self.parser.last_event_id != "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answer.close()
        self._http.close()

    @property
    def values(self) -> list[bytes]:
        return [event.data.encode() for event in self.events if event.is_message]

    def read_until(self, holds: Callable[[], bool]) -> None:
        """Read on until it holds, or until the server ends the stream."""
        try:
            while not holds() and (chunk := self._answer.read1(65_536)):
                self.events += self.parser.feed(chunk)
        except (ConnectionResetError, http.client.IncompleteRead):
            return


@pytest.fixture(scope="module")
def publisher(session_components: LocalComponents) -> Publisher:
    return Publisher(session_components.kafka_brokers)


@pytest.fixture
def service(session_components: LocalComponents, publisher: Publisher) -> Iterator[StreamService]:
    with StreamService(
        session_components.kafka_brokers, SHOPSTREAM_STREAM_CLIENT_BYTES="65536"
    ) as service:
        yield service


def stall_through(service: StreamService, publisher: Publisher) -> list[EncodedEvent]:
    """Publish while nobody reads, until the service has handed on all of it."""
    events = [an_event(subject=f"policy-{number % SUBJECTS}") for number in range(EVENTS)]
    for begin in range(0, EVENTS, 1_000):
        publisher.publish(*events[begin : begin + 1_000])
    wait_until(
        lambda: f"records_total {EVENTS}.0" in service.get("/metrics").text, "all to be read"
    )
    return events


def by_subject(values: list[bytes]) -> dict[str, list[int]]:
    """Sequences as they came."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for value in values:
        event = json.loads(value)
        found[event["subject"]].append(int(event["sequence"]))
    return found


def assert_in_order(values: list[bytes]) -> None:
    assert len(set(values)) == len(values), "nothing twice"
    for sequences in by_subject(values).values():
        assert sequences == sorted(sequences)


def test_resume_closes_and_the_last_id_brings_all_the_rest_once(
    service: StreamService, publisher: Publisher
) -> None:
    with Reader(service, "resume") as reader:
        events = stall_through(service, publisher)
        reader.read_until(lambda: False)
        assert 0 < len(reader.values) < EVENTS

        async def rest() -> list[bytes]:
            stream = await service.connect(last_event_id=reader.parser.last_event_id)
            await stream.until(lambda: len(stream.data) >= EVENTS - len(reader.values))
            stream.cut()
            return stream.data

        values = reader.values + asyncio.run(rest())
    assert_in_order(values)
    assert sorted(values) == sorted(event.value for event in events)


def read_to_a_last_event(reader: Reader, publisher: Publisher) -> bytes:
    """Publish one more and read up to it: whatever the policy, it is the newest."""
    last = an_event(subject="policy-last")
    publisher.publish(last)
    reader.read_until(lambda: last.value in reader.values[-1:])
    return last.value


def test_drop_leaves_out_the_oldest_and_says_how_many(
    service: StreamService, publisher: Publisher
) -> None:
    with Reader(service, "drop") as reader:
        stall_through(service, publisher)
        last = read_to_a_last_event(reader, publisher)
        lagged = [json.loads(e.data) for e in reader.events if e.type == "stream.lagged"]
        assert_in_order(reader.values)
        assert reader.values[-1] == last
        assert sum(told["dropped"] for told in lagged) == EVENTS + 1 - len(reader.values) > 0


def test_latest_ends_at_the_newest_of_each_subject_with_less(
    service: StreamService, publisher: Publisher
) -> None:
    with Reader(service, "latest") as reader:
        events = stall_through(service, publisher)
        newest = {one.subject: one.value for one in events}
        newest["policy-last"] = read_to_a_last_event(reader, publisher)
        assert_in_order(reader.values)
        assert len(reader.values) < EVENTS
        assert {json.loads(value)["subject"]: value for value in reader.values} == newest
